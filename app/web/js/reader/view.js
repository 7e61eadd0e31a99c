// One transcript: read, listen, correct, download.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { addressOf } from "../route.js";
import { openJob } from "./load.js";
import { Transcript } from "./transcript.js";

export function ReaderView({ id }) {
  const [state, setState] = useState({});
  const [tries, setTries] = useState(0);
  useEffect(() => {
    const leaving = new AbortController();
    const tell = (next) => { if (!leaving.signal.aborted) setState(next); };
    setState({});
    openJob(id, (status) => tell({ status }), leaving.signal).then((opened) => tell({ opened }), (error) => tell({ error }));
    return () => leaving.abort();
  }, [id, tries]);
  const { opened, status, error } = state;
  if (opened) return html`<${Transcript} id=${id} opened=${opened} />`;
  if (error) return html`<${Failure} error=${error} onTry=${() => setTries(tries + 1)} />`;
  return html`<${Waiting} status=${status} />`;
}

const Failure = ({ error, onTry }) => html`
  <p class="notice bad" role="alert">${error.message}</p>
  <p class="row"><button type="button" onClick=${onTry}>Try again</button><a href=${addressOf("files")}>All files</a></p>`;

const Waiting = ({ status }) => html`
  <p role="status">${status ? `This recording is still being transcribed (${status.progress}%).` : "The transcript is being opened…"}</p>
  ${status && html`<progress max="100" value=${status.progress} aria-label="Progress"></progress>`}`;
