// Asks for the API key when the service refuses a request without one.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { giveKey, onKeyNeeded } from "./store.js";

export function KeyDialog() {
  const dialog = useRef();
  const [reason, setReason] = useState("");
  useEffect(() => onKeyNeeded((why) => {
    setReason(why);
    dialog.current.showModal();
  }), []);
  const submit = (event) => {
    const given = new FormData(event.target).get("key").trim();
    giveKey(given);
    event.target.reset();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="key-title" onCancel=${() => giveKey("")}>
      <form method="dialog" onSubmit=${submit}>
        <h2 id="key-title">This service needs a key</h2>
        <p>${reason}</p>
        <label>API key <input name="key" type="password" autocomplete="off" required /></label>
        <p class="small pale">It is kept until you close this tab.</p>
        <button class="main">Continue</button>
      </form>
    </dialog>`;
}
