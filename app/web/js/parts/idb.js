// What the page keeps in this browser: one database, one store for each kind of thing.
const NAME = "transcribe";
const VERSION = 1;
const STORES = ["edits", "recordings", "uploads"]; // keys: job id, recording id, upload id
let opened = null;

/** Promise of the database. A failed opening is tried again with the next call. */
export function open() {
  opened ??= opening().catch((error) => {
    opened = null;
    throw error;
  });
  return opened;
}

function opening() {
  const request = indexedDB.open(NAME, VERSION);
  request.onupgradeneeded = () => STORES.forEach((store) => request.result.createObjectStore(store));
  return answerOf(request).then((database) => {
    database.onversionchange = () => { database.close(); opened = null; };
    database.onclose = () => { opened = null; };
    return database;
  });
}

function answerOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("Another tab holds an older version of the database."));
  });
}

/** Settles when the change is on its way to the disk, not only accepted. */
async function change(store, act) {
  const transaction = (await open()).transaction(store, "readwrite");
  act(transaction.objectStore(store));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("The browser keeps nothing more."));
  });
}

const storeOf = async (store) => (await open()).transaction(store).objectStore(store);

export const get = async (store, key) => answerOf((await storeOf(store)).get(key));
export const put = (store, key, value) => change(store, (objects) => objects.put(value, key));
/** Another value for a key that is there; nothing where it has been removed. */
export const amend = (store, key, value) => change(store, (objects) => {
  objects.getKey(key).onsuccess = ({ target }) => { if (target.result !== undefined) objects.put(value, key); };
});
/** With all that is kept below it, as "key/0". */
export const removeWhole = (store, key) => change(store, (objects) => {
  objects.delete(key);
  objects.delete(IDBKeyRange.bound(`${key}/`, `${key}/\uffff`));
});
export const remove = (store, key) => change(store, (objects) => objects.delete(key));
export const all = async (store) => answerOf((await storeOf(store)).getAll());
export const keys = async (store) => answerOf((await storeOf(store)).getAllKeys());
