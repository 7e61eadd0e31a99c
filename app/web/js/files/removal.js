// Deleting with a way back: the service is told only after a while, or when the page is left.
import { addressOfApi, keyHeaders } from "../api/http.js";
import { deleteJob } from "../api/jobs.js";
import { shownName } from "../parts/format.js";
import { say } from "../parts/messages.js";
import { forgetDraft, forgetEdits } from "../reader/edits.js";
import { store } from "../parts/store.js";

const UNDO_MS = 8000;
const removals = store(new Map()); // job id -> { timer, headers }: with the key of whoever deleted it

export const useRemovals = removals.use;

export function removeSoon(task, whenGone) {
  if (removals.get().has(task.task_id)) return; // its first timer could not be undone any more
  const timer = setTimeout(() => removeNow(task, whenGone), UNDO_MS);
  removals.set(new Map(removals.get()).set(task.task_id, { timer, headers: keyHeaders() }));
}

let undone = ""; // the job whose removal was the last to be undone

/** Whether a row is there again because its removal was undone. Once. */
export function isBack({ task_id }) {
  const back = undone === task_id;
  if (back) undone = "";
  return back;
}

export function undoRemoval({ task_id }) {
  undone = task_id;
  clearTimeout(removals.get().get(task_id)?.timer);
  drop(task_id);
}

function drop(id) {
  const rest = new Map(removals.get());
  rest.delete(id);
  removals.set(rest);
}

async function removeNow(task, whenGone) {
  try {
    await deleteJob(task.task_id);
    await forgetAll(task.task_id);
  } catch (error) {
    if (error.status !== 404) say(`“${shownName(task.file_name)}” is not deleted: ${error.message}`, "bad");
  }
  await whenGone();
  drop(task.task_id);
}

/** Corrections go with their job. */
const forgetAll = (id) => Promise.all([forgetEdits(id), forgetDraft(id)]).catch(() => {});

addEventListener("pagehide", () => {
  for (const [id, { headers }] of removals.get()) {
    forgetAll(id);
    fetch(addressOfApi(`result/${encodeURIComponent(id)}`), { method: "DELETE", headers, keepalive: true });
  }
});
