// The formats of transcripts: what the service, file names and people call them; and their writing from corrected ones.
import { call } from "../api/http.js";

/** [format of the service and extension, what people call it] */
export const FORMATS = [
  ["txt", "Text"], ["srt", "Subtitles, SRT"], ["vtt", "Subtitles, WebVTT"], ["md", "Markdown, with times"],
  ["tsv", "Table, TSV"], ["json", "Data, JSON"],
];

/** The Blob of a transcript in the JSON of a result, as the service writes it. */
export async function written(result, format) {
  const headers = { "Content-Type": "application/json" };
  const answer = await call(`format?output=${format}`, { method: "POST", headers, body: JSON.stringify(result) });
  return answer.blob();
}
