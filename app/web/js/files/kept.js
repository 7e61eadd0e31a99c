// Files that are on their way stay in this browser, so that a reload or a closed tab loses none.
import { currentOwner } from "../keys/owner.js";
import { all, amend, put, remove } from "../parts/idb.js";

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

const record = ({ id, file, parameters }) => ({ id, file, name: file.name, parameters, tab: TAB, owner: currentOwner() ?? "" });

/** Whether the file will be there after a reload. */
export async function keep(upload) {
  if (upload.file.size > MOST_BYTES) return false;
  try {
    await put("uploads", upload.id, record(upload));
    return true;
  } catch {
    return false; // private windows and full disks
  }
}

/** Notes the key that has been given since. */
export const own = (upload) => amend("uploads", upload.id, record(upload)).catch(() => {});
export const forget = (id) => remove("uploads", id).catch(() => {});

/** What this tab, or one that is gone, has not handed in: of this key only. `stray`: there was no key yet in another tab. */
export async function left() {
  try {
    const living = await livingTabs();
    const found = (await all("uploads")).filter(({ tab }) => tab === TAB || !living.has(tab));
    return found.filter(isMine).map((upload) => ({ ...upload, stray: isStray(upload) }));
  } catch {
    return [];
  }
}

const isMine = ({ owner }) => !owner || owner === currentOwner();
const isStray = ({ owner, tab }) => !owner && Boolean(currentOwner()) && tab !== TAB;

/** Each tab holds a lock of its name. Without https there are none; then a file may be sent twice, as one job. */
async function livingTabs() {
  if (!navigator.locks) return new Set();
  const { held } = await navigator.locks.query();
  navigator.locks.request(LOCK + TAB, () => new Promise(() => {})).catch(() => {});
  return new Set(held.filter(({ name }) => name.startsWith(LOCK)).map(({ name }) => name.slice(LOCK.length)));
}
