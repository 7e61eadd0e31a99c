// Deleting with a way back: the service is told only after a while, or when the page is left.
import { addressOfApi, keyHeaders } from "../api/http.js";
import { deleteJob } from "../api/jobs.js";
import { shownName } from "../parts/format.js";
import { say } from "../parts/messages.js";
import { store } from "../parts/store.js";

const UNDO_MS = 8000;
const removals = store(new Map()); // job id -> timer

export const useRemovals = removals.use;

export function removeSoon(task, whenGone) {
  const timer = setTimeout(() => removeNow(task, whenGone), UNDO_MS);
  removals.set(new Map(removals.get()).set(task.task_id, timer));
}

export function undoRemoval({ task_id }) {
  clearTimeout(removals.get().get(task_id));
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
  } catch (error) {
    if (error.status !== 404) say(`“${shownName(task.file_name)}” is not deleted: ${error.message}`, "bad");
  }
  await whenGone();
  drop(task.task_id);
}

addEventListener("pagehide", () => {
  for (const id of removals.get().keys()) {
    fetch(addressOfApi(`result/${encodeURIComponent(id)}`), { method: "DELETE", headers: keyHeaders(), keepalive: true });
  }
});
