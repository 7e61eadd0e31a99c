// Jobs of the service: hand in, follow, cancel, read.
import { currentKey, askForKey } from "../keys/store.js";
import { addressOfApi, ApiError, callJson, errorFrom } from "./http.js";

export const statusOf = (id) => callJson(`status/${encodeURIComponent(id)}`);

export async function submitFile(file, parameters, options = {}) {
  try {
    return await sent(file, parameters, options);
  } catch (error) {
    if (error.status === 401 && (await askForKey(error.message))) return submitFile(file, parameters, options);
    throw error;
  }
}

function sent(file, parameters, { onProgress, signal }) {
  const form = new FormData();
  Object.entries(parameters).forEach(([name, value]) => form.append(name, value));
  form.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", addressOfApi("transcribe"));
    if (currentKey()) request.setRequestHeader("Authorization", `Bearer ${currentKey()}`);
    request.upload.onprogress = ({ loaded, total }) => onProgress?.(total ? loaded / total : 0);
    request.onload = () => (request.status < 300 ? resolve(JSON.parse(request.responseText))
      : reject(errorFrom(request.status, request.responseText, request.getResponseHeader("retry-after"))));
    request.onerror = () => reject(new ApiError("The service cannot be reached. Check your connection; it may be restarting."));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

export async function followJob(id, onStatus) {
  for (;;) {
    const status = await statusOf(id);
    onStatus(status);
    if (["done", "failed", "cancelled"].includes(status.status)) return status;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
