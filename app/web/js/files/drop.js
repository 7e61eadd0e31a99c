// The ways in: a button, dropping anywhere on the page, and pasting.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";

const hasFiles = (transfer) => [...(transfer?.types ?? [])].includes("Files");

/** onFiles is called with an array of File. */
export function Drop({ onFiles }) {
  const input = useRef();
  const over = useWholePage(onFiles);
  const pick = () => {
    onFiles([...input.current.files]);
    input.current.value = ""; // so that the same file can be picked again
  };
  return html`
    <div class="drop ${over ? "over" : ""}">
      <button class="main" onClick=${() => input.current.click()}>Add recordings</button>
      <span class="pale">or drop or paste audio and video files anywhere on this page.</span>
      <input ref=${input} type="file" multiple hidden aria-label="Recordings" onChange=${pick} />
    </div>`;
}

/** Whether files are being dragged over the page. */
function useWholePage(onFiles) {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const drag = (event) => {
      if (!hasFiles(event.dataTransfer)) return;
      event.preventDefault(); // else the browser opens the file, and the page is gone
      setOver(event.type === "dragover");
    };
    const leave = (event) => { if (!event.relatedTarget) setOver(false); };
    const take = (event) => {
      const transfer = event.dataTransfer ?? event.clipboardData;
      if (!hasFiles(transfer)) return;
      event.preventDefault();
      setOver(false);
      onFiles([...transfer.files]);
    };
    const handlers = { dragover: drag, dragleave: leave, drop: take, paste: take };
    Object.entries(handlers).forEach(([name, handle]) => addEventListener(name, handle));
    return () => Object.entries(handlers).forEach(([name, handle]) => removeEventListener(name, handle));
  }, []);
  return over;
}
