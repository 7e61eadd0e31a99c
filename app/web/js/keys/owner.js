// Whose this browser's uploads, recordings and corrections are: told by a digest of the key that made them.
import { sha256 } from "./digest.js";

const NAME = "transcribe.owner";
const listeners = new Set();
let owner = sessionStorage.getItem(NAME); // null until the service has accepted a key, or needed none

/** A digest of the key; "" where the service needs none; null while that is not known. */
export const currentOwner = () => owner;
export const ownerOf = (key) => (key ? sha256(`transcribe ${key}`) : "");

/** Calls listener with the owner as soon as, and whenever, there is one. */
export function onOwner(listener) {
  listeners.add(listener);
  if (owner !== null) listener(owner);
  return () => listeners.delete(listener);
}

/** The service has answered a request with this key. */
export function accepted(key) {
  const now = ownerOf(key);
  if (now === owner) return;
  owner = now;
  sessionStorage.setItem(NAME, owner);
  listeners.forEach((tell) => tell(owner));
}

export function forgetOwner() {
  owner = null;
  sessionStorage.removeItem(NAME);
}
