// How the next files are transcribed. Remembered in this browser.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { callJson } from "../api/http.js";
import { LANGUAGES } from "./languages.js";
import { store } from "./store.js";

const NAME = "transcribe.options";
const DEFAULTS = { language: "", model: "", speakers: true, least: "", most: "", translate: false, prompt: "", hotwords: "" };
const MAX_SPEAKERS = 100;

function remembered() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(NAME)) };
  } catch {
    return DEFAULTS;
  }
}

const options = store(remembered());

function set(values) {
  options.set({ ...options.get(), ...values });
  localStorage.setItem(NAME, JSON.stringify(options.get()));
}

/** What the service is asked for with each file. */
export function currentParameters() {
  const { language, model, speakers, least, most, translate, prompt, hotwords } = options.get();
  return { language, model, prompt, hotwords, task: translate ? "translate" : "", diarize: speakers, ...(speakers ? numbers(least, most) : {}) };
}

function numbers(least, most) {
  if (least && least === most) return { num_speakers: least };
  const [min_speakers, max_speakers] = least && most ? [least, most].sort((a, b) => a - b) : [least, most];
  return { min_speakers, max_speakers };
}

/** In a few words, for the closed fold. */
function summary({ language, model, speakers, translate }) {
  const name = LANGUAGES.find(([code]) => code === language)?.[1];
  const spoken = language === "multi" ? "several languages" : name ?? "any language";
  return [spoken, speakers ? "speakers told apart" : "no speakers", translate && "into English", model].filter(Boolean).join(", ");
}

function useModels() {
  const [models, setModels] = useState([]);
  useEffect(() => {
    callJson("v1/models").then(({ data }) => setModels(data.map(({ id }) => id)), () => {}); // the default is there all the same
  }, []);
  return models;
}

const written = (name) => ({ value: options.get()[name], onInput: (event) => set({ [name]: event.target.value }) });
const ticked = (name) => ({ checked: options.get()[name], onChange: (event) => set({ [name]: event.target.checked }) });

export function Options() {
  const chosen = options.use(), models = useModels();
  return html`
    <details class="options">
      <summary>Options <span class="pale small">${summary(chosen)}</span></summary>
      <div class="fields">
        <label>Language
          <select ...${written("language")}>
            <option value="">Find out by itself</option>
            <option value="multi">Several: each part in its own</option>
            ${LANGUAGES.map(([code, name]) => html`<option key=${code} value=${code}>${name}</option>`)}
          </select>
        </label>
        <label>Model
          <select ...${written("model")}>
            <option value="">${models.length ? `${models[0]} (usual)` : "The service's own"}</option>
            ${models.slice(1).map((id) => html`<option key=${id} value=${id}>${id}</option>`)}
          </select>
        </label>
        <div class="wide row">
          <label class="tick"><input type="checkbox" ...${ticked("speakers")} /> Tell speakers apart</label>
          ${chosen.speakers && html`
            <label class="number">at least <input type="number" min="1" max=${MAX_SPEAKERS} placeholder="any" ...${written("least")} /></label>
            <label class="number">at most <input type="number" min="1" max=${MAX_SPEAKERS} placeholder="any" ...${written("most")} /></label>`}
        </div>
        <label class="tick wide"><input type="checkbox" ...${ticked("translate")} /> Translate into English</label>
        <label>Words and names to listen for <input ...${written("hotwords")} placeholder="Ms. Nguyen, Kubernetes" /></label>
        <label>Text that might have gone before <input ...${written("prompt")} placeholder="Minutes of the board, in full sentences." /></label>
      </div>
    </details>`;
}
