// The API key of this session, and the wait for one where the service wants it.
import { accepted, currentOwner, forgetOwner, ownerOf } from "./owner.js";

const NAME = "transcribe.key";
const listeners = new Set();
const changed = new Set();
let waiting = null; // { promise, resolve } while somebody is asked
let known = null; // the key that was accepted last

/** Also ends what runs with it: everything on the page is loaded anew. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
  forgetOwner();
  location.reload();
}

export const currentKey = () => sessionStorage.getItem(NAME) ?? "";

export function onKeyNeeded(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onKeyChanged(listener) {
  changed.add(listener);
  return () => changed.delete(listener);
}

/** Notes that the service took this key, or no key at all. */
export function keyAccepted(key) {
  if (key !== currentKey() || key === known) return;
  known = key;
  accepted(key);
}

/** Asks for another key than the one that was refused, unless it has changed meanwhile. Settles with true once there is
 * one, false if the user declined. */
export async function askForKey(reason, refused) {
  if (currentKey() && currentKey() !== refused) return true;
  if (!waiting) {
    let resolve;
    waiting = { promise: new Promise((settle) => { resolve = settle; }) };
    waiting.resolve = resolve;
    listeners.forEach((tell) => tell(reason));
  }
  return waiting.promise;
}

export function giveKey(key) {
  if (key && currentOwner() && ownerOf(key) !== currentOwner()) return startAnewWith(key);
  if (key) sessionStorage.setItem(NAME, key);
  changed.forEach((tell) => tell(key));
  const asked = waiting;
  waiting = null;
  asked?.resolve(Boolean(key));
}

/** What this tab does for another key must not go on with this one: whoever waits is never answered. */
function startAnewWith(key) {
  sessionStorage.setItem(NAME, key);
  forgetOwner();
  location.reload();
}
