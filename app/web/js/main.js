// Mounts the page. What is shown follows the fragment of the address; see route.js.
import { html, render } from "../vendor/htm-preact.js";
import { Frame } from "./frame.js";

render(html`<${Frame} />`, document.getElementById("page"));
