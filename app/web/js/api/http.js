// Requests to the service this page came from. Every failure is an ApiError whose message is for people.
import { duration } from "../parts/format.js";
import { askForKey, currentKey, keyAccepted } from "../keys/store.js";

const OWN = import.meta.url; // below web/ of the service, which may be behind a proxy's path
export const ROOT = new URL(OWN.slice(0, OWN.lastIndexOf("/web/") + 1));

const NEEDS_NO_KEY = "queue"; // its answer says nothing of the key, unless OPS_REQUIRE_KEY is set

export class ApiError extends Error {
  /** `reason`: the message without a word about another try. */
  constructor(message, status = 0, retryAfterS = null, reason = message) {
    super(message);
    this.reason = reason;
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
  if (response.ok) return noted(response, path, key);
  const error = await errorOf(response);
  if (response.status === 401 && (await askForKey(error.message, key))) return call(path, options);
  throw error;
}

function noted(response, path, key) {
  if (path !== NEEDS_NO_KEY) keyAccepted(key);
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
  const reason = sentence(status, detailOf(body));
  const later = LATER.includes(status) ? ` Try again ${wait ? `in ${duration(wait)}` : "later"}.` : "";
  return new ApiError(reason + later, status, wait, reason);
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

const LATER = [429, 503, 507];
const OF_STATUS = {
  429: "You have sent as much as the service allows you for now.",
  503: "The service has too much to do now, or is restarting.",
  507: "The service has no disk space left for this.",
};
const OTHERWISE = {
  401: "The key is missing or wrong.",
  404: "This is not here (any more).",
  413: "The file is too large for this service.",
};

function sentence(status, detail) {
  const known = detail || OTHERWISE[status] || `The service answered with an error (${status}).`;
  return OF_STATUS[status] ?? (status === 413 ? `${known} Shorten it, or send only its sound.` : known);
}
