// The models that the service offers, its usual one first.
import { useEffect, useState } from "../../vendor/htm-preact.js";
import { callJson } from "../api/http.js";

/** Their names; none until the service has told them. */
export function useModels() {
  const [models, setModels] = useState([]);
  useEffect(() => {
    callJson("v1/models").then(({ data }) => setModels(data.map(({ id }) => id)), () => {}); // the default is there all the same
  }, []);
  return models;
}
