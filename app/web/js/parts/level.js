// A bar that shows how loud the microphone is, without rendering anything anew.
import { html, useEffect, useRef } from "../../vendor/htm-preact.js";

const FLOOR_DB = -60;

export function Level({ stream, paused = false }) {
  const bar = useRef();
  useEffect(() => {
    if (!stream || paused) return undefined;
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let frame = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const decibels = 20 * Math.log10(Math.hypot(...samples) / Math.sqrt(samples.length) || 1e-9);
      if (bar.current) bar.current.style.transform = `scaleX(${Math.min(1, Math.max(0, 1 - decibels / FLOOR_DB))})`;
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => {
      cancelAnimationFrame(frame);
      context.close();
    };
  }, [stream, paused]);
  return html`<div class="level" role="presentation"><div ref=${bar}></div></div>`;
}
