// Requests to the service this page came from. Every failure is an ApiError whose message is for people.
import { askForKey, currentKey, keyAccepted } from "../keys/store.js";

export const ROOT = new URL("../../../", import.meta.url); // also behind a proxy's path

export class ApiError extends Error {
  constructor(message, status = 0, retryAfterS = null) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export const addressOfApi = (path) => new URL(path, ROOT);
export const keyHeaders = () => (currentKey() ? { Authorization: `Bearer ${currentKey()}` } : {});

/** The response; asks for a key and repeats where one is needed. Throws ApiError. */
export async function call(path, options = {}) {
  const key = currentKey();
  const response = await attempt(path, options);
  if (response.ok) return taken(response, key);
  const error = await errorOf(response);
  if (response.status === 401 && (await askForKey(error.message, key))) return call(path, options);
  throw error;
}

function taken(response, key) {
  keyAccepted(key);
  return response;
}

async function attempt(path, { headers, ...options }) {
  try {
    return await fetch(addressOfApi(path), { ...options, headers: { ...headers, ...keyHeaders() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service cannot be reached. Check your connection; it may be restarting.");
  }
}

export async function callJson(path, options) {
  return (await call(path, options)).json();
}

export async function errorOf(response) {
  const body = await response.text().catch(() => "");
  return errorFrom(response.status, body, response.headers.get("retry-after"));
}

/** What a status and a body mean to somebody who knows nothing of HTTP. */
export function errorFrom(status, body, retryAfter) {
  const wait = Number(retryAfter) || null;
  return new ApiError(sentence(status, detailOf(body), wait), status, wait);
}

function detailOf(body) {
  try {
    const { detail, error } = JSON.parse(body);
    const text = detail ?? error?.message ?? error;
    return typeof text === "string" ? text : Array.isArray(text) ? text.map(({ msg }) => msg).join(" ") : "";
  } catch {
    return "";
  }
}

function sentence(status, detail, wait) {
  const later = wait ? `Try again in ${wait < 90 ? `${wait} s` : `${Math.ceil(wait / 60)} min`}.` : "Try again later.";
  if (status === 401) return detail || "The key is missing or wrong.";
  if (status === 404) return detail || "This is not here (any more).";
  if (status === 413) return detail || "The file is too large for this service.";
  if (status === 429) return `This is more than the service allows in this time. ${later}`;
  if (status === 503) return `The service is too busy, or restarting. ${later}`;
  return detail || `The service answered with an error (${status}).`;
}
