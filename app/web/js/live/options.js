// What the stream is to do: model, language, speakers, translation. Remembered by this browser.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { callJson } from "../api/http.js";
import { LANGUAGES } from "../parts/languages.js";

const NAME = "transcribe.live";

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}

/** The options as the stream's configuration has them, and a function that changes one. */
export function useOptions() {
  const [options, setOptions] = useState(remembered);
  const change = (name, value) => setOptions((before) => {
    const { [name]: _, ...others } = before;
    const after = value ? { ...others, [name]: value } : others; // the rest is the service's default
    localStorage.setItem(NAME, JSON.stringify(after));
    return after;
  });
  return [options, change];
}

export function Options({ options, onChange, disabled }) {
  const [models, setModels] = useState([]);
  useEffect(() => {
    callJson("v1/models").then(({ data }) => setModels(data.map(({ id }) => id)), () => {});
  }, []);
  const known = models.includes(options.model) || !options.model ? models : [options.model, ...models];
  return html`
    <details class="live-options">
      <summary>Options</summary>
      <fieldset disabled=${disabled}>
        <legend class="hidden-text">Options of the stream</legend>
        <label>Model
          <select value=${options.model ?? ""} onChange=${({ target }) => onChange("model", target.value)}>
            <option value="">The service's default</option>
            ${known.map((id) => html`<option key=${id} value=${id}>${id}</option>`)}
          </select></label>
        <label>Language
          <select value=${options.language ?? ""} onChange=${({ target }) => onChange("language", target.value)}>
            <option value="">Detect</option>
            ${LANGUAGES.map(([code, name]) => html`<option key=${code} value=${code}>${name}</option>`)}
          </select></label>
        <label class="check"><input type="checkbox" checked=${options.diarize ?? false}
          onChange=${({ target }) => onChange("diarize", target.checked)} /> Tell speakers apart</label>
        <label class="check"><input type="checkbox" checked=${options.task === "translate"}
          onChange=${({ target }) => onChange("task", target.checked && "translate")} /> Translate into English</label>
      </fieldset>
    </details>`;
}
