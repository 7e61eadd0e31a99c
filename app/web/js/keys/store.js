// The API key of this session, and the wait for one where the service wants it.
const NAME = "transcribe.key";
const listeners = new Set();
const changed = new Set();
let waiting = null; // { promise, resolve } while somebody is asked

/** Also ends what runs with it: everything on the page is loaded anew. */
export function forgetKey() {
  sessionStorage.removeItem(NAME);
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
  if (key) sessionStorage.setItem(NAME, key);
  changed.forEach((tell) => tell(key));
  const asked = waiting;
  waiting = null;
  asked?.resolve(Boolean(key));
}
