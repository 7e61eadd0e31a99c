// The header, the view of the current route, the messages, and the question for a key.
import { html, useEffect } from "../vendor/htm-preact.js";
import { addressOfApi } from "./api/http.js";
import { KeyDialog } from "./keys/dialog.js";
import { ForgetKey } from "./keys/forget.js";
import { Messages } from "./parts/messages.js";
import { addressOf, useRoute } from "./route.js";
import { VIEWS } from "./views.js";

export function Frame() {
  const route = useRoute();
  const { title, View } = VIEWS[route.view] ?? VIEWS.files;
  useEffect(() => { document.title = `${title} – Transcribe`; }, [title]);
  return html`
    <div class="frame">
      <header>
        <h1>Transcribe</h1>
        <nav aria-label="Views">
          ${Object.entries(VIEWS).filter(([, { listed }]) => listed).map(([name, { title }]) => html`
            <a key=${name} href=${addressOf(name)} aria-current=${route.view === name ? "page" : null}>${title}</a>`)}
          <a href=${addressOfApi("docs").href}>API</a>
        </nav>
        <${ForgetKey} />
      </header>
      <main><${View} key=${route.view + route.id} id=${route.id} /></main>
      <${Messages} />
      <${KeyDialog} />
    </div>`;
}
