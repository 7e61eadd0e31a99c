// Hands a file to the browser's downloads.

/** Saves a Blob under a name. */
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** "meeting.srt" for "meeting.mp4": the name of a download follows that of its source. */
export function nameFor(fileName, extension) {
  const base = fileName.replaceAll("\\", "/").split("/").pop().replace(/\.[^.\s]{1,5}$/, "");
  const shown = [...base].filter((letter) => !/[\p{Cc}\p{Cf}<>:"|?*]/u.test(letter)).join("").trim();
  return `${shown || "transcript"}.${extension}`;
}
