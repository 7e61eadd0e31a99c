// Files that are on their way stay in this browser, so that a reload or a closed tab loses none.
import { all, put, remove } from "../parts/idb.js";

const MOST_BYTES = 500e6; // of one file: larger ones take long to copy
const TAB = tabName();
const LOCK = "transcribe.tab.";

/** The same after a reload, where the browser keeps anything at all. */
function tabName() {
  try {
    return (sessionStorage["transcribe.tab"] ??= newId());
  } catch {
    return newId();
  }
}

/** Keys that nobody guesses. Not randomUUID: browsers have it on https only. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether the file will be there after a reload. */
export async function keep({ id, file, parameters }) {
  if (file.size > MOST_BYTES) return false;
  try {
    await put("uploads", id, { id, file, name: file.name, parameters, tab: TAB });
    return true;
  } catch {
    return false; // private windows and full disks
  }
}

export const forget = (id) => remove("uploads", id).catch(() => {});

/** What this tab, or one that is gone, has not handed in. */
export async function left() {
  try {
    const living = await livingTabs();
    return (await all("uploads")).filter(({ tab }) => tab === TAB || !living.has(tab));
  } catch {
    return [];
  }
}

/** Each tab holds a lock of its name. Without https there are none; then a file may be sent twice, as one job. */
async function livingTabs() {
  if (!navigator.locks) return new Set();
  const { held } = await navigator.locks.query();
  navigator.locks.request(LOCK + TAB, () => new Promise(() => {})).catch(() => {});
  return new Set(held.filter(({ name }) => name.startsWith(LOCK)).map(({ name }) => name.slice(LOCK.length)));
}
