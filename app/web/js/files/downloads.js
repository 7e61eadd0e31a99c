// Transcripts as files: one, or several in a zip. Their names follow those of the recordings.
import { resultAs } from "../api/jobs.js";
import { keptEdits } from "../reader/edits.js";
import { toResult } from "../reader/model.js";
import { nameFor, saveAs } from "../parts/download.js";
import { written } from "../parts/formats.js";
import { say } from "../parts/messages.js";
import { zip } from "../parts/zip.js";

const fileOf = async ({ task_id, file_name }, format) => ({
  name: nameFor(file_name, format), blob: await transcriptAs(task_id, format),
});

/** With the corrections of this browser, if there are any. */
async function transcriptAs(id, format) {
  const { edits } = await keptEdits(id);
  return edits ? written(toResult(edits.transcript, edits.about), format) : resultAs(id, format);
}

export async function download(task, format) {
  try {
    const { blob, name } = await fileOf(task, format);
    saveAs(blob, name);
  } catch (error) {
    say(error.message, "bad");
  }
}

/** onProgress(how many there are already). */
export async function downloadAll(tasks, format, onProgress) {
  const files = [];
  try {
    for (const task of tasks) {
      onProgress(files.length);
      files.push(await fileOf(task, format));
    }
    saveAs(await zip(files), "transcripts.zip");
  } catch (error) {
    say(error.message, "bad");
  }
}
