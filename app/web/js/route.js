// The view follows the fragment: #/ (files), #/record, #/live, #/queue, #/job/ID.
import { useEffect, useState } from "../vendor/htm-preact.js";

const WITHOUT_FRAGMENT = { client: "live" }; // an address that serves the page, too

export function currentRoute() {
  const [view, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const page = location.pathname.split("/").pop();
  return { view: view || WITHOUT_FRAGMENT[page] || "files", id: decodeURIComponent(rest.join("/")) };
}

export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const follow = () => setRoute(currentRoute());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}

export const addressOf = (view, id = "") => `#/${view === "files" ? "" : view}${id ? `/${encodeURIComponent(id)}` : ""}`;
