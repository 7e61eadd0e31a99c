// Asks for the API key when the service refuses a request without one.
import { html, useEffect, useRef, useState } from "../../vendor/htm-preact.js";
import { ClearKept, useKept } from "./clear.js";
import { currentKey, giveKey, onKeyNeeded } from "./store.js";

/** The service's own words speak of headers where no key was sent. */
const shown = (reason) => (currentKey() ? reason : "Only people with a key may use it.");

export function KeyDialog() {
  const dialog = useRef();
  const [reason, setReason] = useState("");
  const [asked, setAsked] = useState(0);
  const kept = useKept([asked]);
  useEffect(() => onKeyNeeded((why) => {
    setReason(why);
    setAsked((times) => times + 1);
    dialog.current.showModal();
  }), []);
  const submit = (event) => {
    const given = new FormData(event.target).get("key").trim();
    giveKey(given);
    event.target.reset();
  };
  const decline = () => {
    dialog.current.close();
    giveKey("");
  };
  return html`
    <dialog ref=${dialog} class="key" aria-labelledby="key-title" onCancel=${() => giveKey("")}>
      <form method="dialog" onSubmit=${submit}>
        <h2 id="key-title">This service needs a key</h2>
        <p id="key-reason">${shown(reason)}</p>
        <label>API key <input name="key" type="password" autocomplete="off" spellcheck="false" required aria-describedby="key-reason" /></label>
        <p class="small pale">Ask whoever runs the service for one. It is kept until you close this tab.</p>
        <div class="row">
          <button class="main">Continue</button>
          <button type="button" class="plain" onClick=${decline}>Not now</button>
        </div>
        <${ClearKept} key=${asked} kept=${kept} />
      </form>
    </dialog>`;
}
