// Transcripts as files: one, or several in a zip. Their names follow those of the recordings.
import { resultAs } from "../api/jobs.js";
import { nameFor, saveAs } from "../parts/download.js";
import { say } from "../parts/messages.js";
import { zip } from "../parts/zip.js";

/** [format of the service, extension, what people call it] */
export const FORMATS = [
  ["text", "txt", "Text"], ["srt", "srt", "Subtitles (SRT)"], ["vtt", "vtt", "Subtitles (VTT)"], ["md", "md", "Markdown"],
  ["tsv", "tsv", "Table (TSV)"], ["json", "json", "JSON"],
];

const extensionOf = (format) => FORMATS.find(([name]) => name === format)[1];
const fileOf = async ({ task_id, file_name }, format) => ({
  name: nameFor(file_name, extensionOf(format)), blob: await resultAs(task_id, format),
});

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
