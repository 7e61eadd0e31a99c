// Files on their way to the service: two at a time, the others wait.
import { submitFile } from "../api/jobs.js";
import { onOwner } from "../keys/owner.js";
import { store } from "../parts/store.js";
import { forget, keep, left, newId, own } from "./kept.js";

const AT_ONCE = 2;
const TRANSIENT = [0, 409, 429, 502, 503, 504, 507]; // worth another try; 0: the connection was lost
const WAIT_S = 5, LONGEST_WAIT_S = 60;

// { id, file, parameters, state: waiting | sending | failed, share, error, waitS, tries, notBefore, kept, stray }
const uploads = store([]);
const handedIn = store([]);

export const useUploads = uploads.use;
export const useHandedIn = handedIn.use; // the ids of the jobs that were, in this tab

const change = (id, values) => uploads.set(uploads.get().map((one) => (one.id === id ? { ...one, ...values } : one)));
const without = (id) => uploads.set(uploads.get().filter((one) => one.id !== id));

/** Queues files with these parameters. */
export function addFiles(files, parameters) {
  for (const file of files) add({ id: newId(), file, parameters });
}

async function add(upload) {
  uploads.set([...uploads.get(), { state: "waiting", share: 0, error: "", tries: 0, notBefore: 0, ...upload }]);
  const fault = await faultOf(upload.file);
  if (fault) return change(upload.id, { state: "failed", error: fault, final: true });
  pump();
  if (!upload.stray) await keepNow(upload);
}

async function keepNow(upload) {
  const kept = await keep(upload);
  if (uploads.get().some(({ id }) => id === upload.id)) change(upload.id, { kept });
  else forget(upload.id); // it has been handed in meanwhile
}

async function faultOf(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return "This cannot be read. If it is a folder, add the files in it.";
  }
  return file.size ? "" : "This file is empty.";
}

function pump() {
  const now = Date.now(), all = uploads.get();
  let free = AT_ONCE - all.filter(({ state }) => state === "sending").length;
  for (const upload of all) {
    if (upload.state !== "waiting" || upload.notBefore > now || free <= 0) continue;
    free -= 1;
    send(upload);
  }
}

async function send({ id, file, parameters, tries }) {
  const controller = new AbortController();
  change(id, { state: "sending", share: 0, error: "", controller });
  try {
    const { task_id: job } = await submitFile(file, parameters, { key: id, signal: controller.signal, onProgress: (share) => change(id, { share }) });
    without(id);
    forget(id);
    handedIn.set([...handedIn.get(), job]);
  } catch (error) {
    if (error.name !== "AbortError") fail(id, error, tries + 1);
  }
  pump();
}

function fail(id, error, tries) {
  if (!TRANSIENT.includes(error.status)) return change(id, { state: "failed", error: error.message ?? String(error) });
  const waitS = error.retryAfterS ?? Math.min(WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S);
  change(id, { state: "waiting", error: error.reason, waitS, tries, notBefore: Date.now() + waitS * 1000 });
  setTimeout(pump, waitS * 1000 + 50);
}

/** Stops an upload, or takes one that waits or failed from the list. */
export function cancelUpload(id) {
  uploads.get().find((one) => one.id === id)?.controller?.abort();
  without(id);
  forget(id);
  pump();
}

/** A stray is this key's from here on. */
export function retryUpload(id) {
  const upload = uploads.get().find((one) => one.id === id);
  change(id, { state: "waiting", error: "", tries: 0, notBefore: 0, stray: false });
  if (upload.stray) keepNow(upload);
  pump();
}

const STRAY = "This was added before a key was given, perhaps by somebody else.";

/** Goes on with what an earlier visit has not handed in, once it is known whose key this is. */
async function resume() {
  uploads.get().filter((upload) => !upload.stray).forEach(own);
  for (const { id, file, name, parameters, stray } of await left()) {
    if (uploads.get().some((upload) => upload.id === id)) continue;
    add({ id, parameters, kept: true, file: file.name ? file : new File([file], name), ...(stray && { stray, state: "failed", error: STRAY }) });
  }
}

/** Whether leaving the page would lose a file. */
const wouldLose = () => uploads.get().some(({ state, kept }) => state !== "failed" && !kept);

addEventListener("beforeunload", (event) => { if (wouldLose()) event.preventDefault(); });
onOwner(resume);
