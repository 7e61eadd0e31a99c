// Jobs of the service: handing in, following, and all that one can do with them later.
import { addressOfApi, ApiError, call, callJson, errorFrom, keyHeaders } from "./http.js";
import { askForKey, currentKey, keyAccepted } from "../keys/store.js";
import { eventsOf } from "./events.js";

const POLL_MS = 2000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
export const ENDED = new Set(["done", "failed", "cancelled"]);

const path = (what, id) => `${what}/${encodeURIComponent(id)}`;

/** Sends a file with its parameters. onProgress(share from 0 to 1). Resolves to { task_id }. Whatever is sent with the
 * same key is one job: another try after a lost connection does no harm. */
export async function submitFile(file, parameters, { onProgress = () => {}, signal, key } = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ keep_audio: true, ...parameters })) {
    if (value !== "" && value != null) form.append(name, value);
  }
  form.append("file", file, file.name || "recording");
  for (;;) {
    const sentKey = currentKey();
    try {
      const handedIn = await send(form, onProgress, signal, key);
      keyAccepted(sentKey);
      return handedIn;
    } catch (error) {
      if (error.status !== 401 || !(await askForKey(error.message, sentKey))) throw error;
    }
  }
}

/** By XMLHttpRequest: fetch does not tell how much it has sent. */
function send(form, onProgress, signal, key) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", addressOfApi("transcribe"));
    for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
    if (key) request.setRequestHeader("Idempotency-Key", key);
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => settle(request, resolve, reject);
    request.onerror = () => reject(new ApiError("The connection was lost while the file was sent."));
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    request.onloadend = () => signal?.removeEventListener("abort", stop);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) return request.onabort();
    request.send(form);
  });
}

function settle(request, resolve, reject) {
  if (request.status === 202) return resolve(JSON.parse(request.responseText));
  reject(errorFrom(request.status, request.responseText, request.getResponseHeader("Retry-After")));
}

export const statusOf = (id, options) => callJson(path("status", id), options);
export const resultOf = (id) => callJson(`${path("result", id)}?format=json`);
/** The transcript in a format of the service, as a Blob. */
export const resultAs = async (id, format) => (await call(`${path("result", id)}?format=${format}`)).blob();
export const cancelJob = (id) => callJson(path("cancel", id), { method: "DELETE" });
export const deleteJob = (id) => callJson(path("result", id), { method: "DELETE" });
export const retryJob = (id) => callJson(path("retry", id), { method: "POST" });

/** { tasks, total, next_cursor }; status: one or several with commas. */
export function history({ limit = 50, cursor, search, status } = {}) {
  const wanted = Object.entries({ limit, cursor, search, status }).filter(([, value]) => value);
  return callJson(`history?${new URLSearchParams(wanted)}`);
}

/** Calls onStatus with each status until the job has ended. Resolves to the last one. */
export async function followJob(id, onStatus, signal, look = listen) {
  for (let failures = 0; ;) {
    try {
      const ended = await look(id, (status) => { failures = 0; onStatus(status); }, signal);
      if (ended) return ended;
      await pause(POLL_MS, signal);
    } catch (error) {
      if (signal?.aborted || isFinal(error)) throw error;
      await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)], signal);
    }
  }
}

/** The same without a connection that stays open: browsers have six for a service. */
export const pollJob = (id, onStatus, signal) => followJob(id, onStatus, signal, ask);

/** Another try does not help: the job is gone, or there is no key. */
const isFinal = ({ status }) => [401, 403, 404].includes(status);

/** The last status; null if the stream ended before the job, or there are too many streams. */
async function listen(id, onStatus, signal) {
  let response;
  try {
    response = await call(path("events", id), { signal });
  } catch (error) {
    if (isFinal(error) || error.name === "AbortError") throw error;
    return ask(id, onStatus, signal);
  }
  for await (const { data } of eventsOf(response.body)) {
    onStatus(data);
    if (ENDED.has(data.status)) return data;
  }
  return ask(id, onStatus, signal);
}

async function ask(id, onStatus, signal) {
  const status = await statusOf(id, { signal });
  onStatus(status);
  return ENDED.has(status.status) ? status : null;
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/** An address for <audio>: it needs no header, for an hour. Rejects where no recording is kept. */
export async function mediaAddress(id) {
  const { url } = await callJson(`${path("media", id)}/link`, { method: "POST" });
  const link = addressOfApi(path("media", id)); // also behind a proxy's path, which the service may not know
  link.search = new URL(url, location.href).search;
  return link.href;
}

/** { duration, peaks }: peaks from 0 to 1. */
export const peaksOf = (id) => callJson(path("peaks", id));
