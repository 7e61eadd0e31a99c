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

/** Asks for a key. Settles with true once one was given, false if the user declined. */
export function askForKey(reason) {
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
