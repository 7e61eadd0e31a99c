// Play, pause, the place in time, the speed.
import { html, useEffect, useState } from "../../vendor/htm-preact.js";
import { clock } from "../parts/format.js";
import { Icon, IconButton } from "./icons.js";
import { RATES } from "./player.js";

/** Shows what the player says, a few times in a second. */
function usePlayerState(player) {
  const read = () => ({ second: Math.floor(player?.time ?? 0), playing: player?.playing ?? false, rate: player?.rate ?? 1 });
  const [state, setState] = useState(read);
  useEffect(() => {
    const update = () => setState((old) => {
      const next = read();
      return Object.keys(next).every((name) => next[name] === old[name]) ? old : next;
    });
    update();
    return player?.on(update);
  }, [player]);
  return state;
}

export function PlayerBar({ player, ready, duration }) {
  const { second, playing, rate } = usePlayerState(player);
  return html`
    <div class="row controls" role="group" aria-label="Player">
      <button type="button" class="main round" disabled=${!ready} aria-label=${playing ? "Pause" : "Play"} title="Space" onClick=${() => player.toggle()}>
        <${Icon} name=${playing ? "pause" : "play"} />
      </button>
      <${IconButton} icon="back" label="Back 5 seconds" disabled=${!ready} onClick=${() => player.nudge(-5)} />
      <${IconButton} icon="forward" label="Forward 5 seconds" disabled=${!ready} onClick=${() => player.nudge(5)} />
      <span class="clock">${clock(second)}<span class="pale"> / ${clock(duration)}</span></span>
      <input class="place grow" type="range" min="0" max=${Math.ceil(duration)} step="1" value=${second}
        aria-label="Place in the recording" aria-valuetext=${`${clock(second)} of ${clock(duration)}`}
        onInput=${(event) => player.seek(Number(event.target.value))} />
      <label class="rate"><span class="hidden-text">Speed</span>
        <select value=${rate} disabled=${!ready} onChange=${(event) => player.setRate(Number(event.target.value))}>
          ${RATES.map((value) => html`<option key=${value} value=${value}>${value}×</option>`)}
        </select>
      </label>
    </div>`;
}
