// Small pictures on buttons; each button has a name in words, too.
import { html } from "../../vendor/htm-preact.js";

const PATHS = {
  play: "M7 4.5v15l12-7.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  back: "M12 5V1.5L7 6l5 4.5V7a6 6 0 1 1-6 6H4a8 8 0 1 0 8-8z",
  forward: "M12 5V1.5L17 6l-5 4.5V7a6 6 0 1 0 6 6h2a8 8 0 1 1-8-8z",
  undo: "M8 5 3.5 9.5 8 14v-3.4h6a3.7 3.7 0 0 1 0 7.4H9v2h5a5.7 5.7 0 0 0 0-11.4H8z",
  redo: "M16 5l4.5 4.5L16 14v-3.4h-6a3.7 3.7 0 0 0 0 7.4h5v2h-5a5.7 5.7 0 0 1 0-11.4h6z",
  download: "M11 4h2v8.2l3-3 1.4 1.4L12 16l-5.4-5.4L8 9.2l3 3zM5 18h14v2H5z",
  up: "M12 8l7 7-1.4 1.4L12 10.8l-5.6 5.6L5 15z",
  down: "M12 16l7-7-1.4-1.4L12 13.2 6.4 7.6 5 9z",
  edit: "M4 16.5V20h3.5L18 9.5 14.5 6zM19.7 7.8a1 1 0 0 0 0-1.4l-2.1-2.1a1 1 0 0 0-1.4 0l-1 1L18.7 8.8z",
  more: "M6 10.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zm6 0a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6zm6 0a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z",
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d=${PATHS[name]} fill="currentColor" /></svg>`;

/** A button with a picture only; `label` is what it is called. */
export const IconButton = ({ icon, label, ...rest }) => html`
  <button type="button" class="plain square" aria-label=${label} title=${label} ...${rest}><${Icon} name=${icon} /></button>`;
