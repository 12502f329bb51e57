// The page: pictures go to the service a few at a time, and answers come as cards.

import {acceptDrops, csv, save} from "./files.js";
import {artistPanel} from "./gallery.js";
import {card, rows, thumbnail} from "./results.js";
import {ask, askPatiently, useKey} from "./service.js";
import {translate, words} from "./words.js";

const AT_ONCE = 4; // requests
const MEBIBYTE = 2 ** 20;
const at = (id) => document.getElementById(id);
const entries = []; // {name, record}, in the order of the cards
const waiting = [];
let running = 0;
let about;

const tell = (text) => { at("told").textContent = text; };

const showProgress = () => {
  const done = entries.filter(({record}) => record);
  at("status").hidden = at("actions").hidden = !entries.length;
  at("progress").max = Math.max(1, entries.length);
  at("progress").value = done.length;
  at("progress").hidden = done.length === entries.length;
  at("progress").setAttribute("aria-label", words.progress(done.length, entries.length, 0));
  tell(words.progress(done.length, entries.length, done.filter(({record}) => record.error).length));
};

// A data: address of the picture with the map of an artist over it.
const locate = async (file, artist) => {
  const path = `/api/explain?artist=${encodeURIComponent(artist)}`;
  return (await askPatiently(path, {method: "POST", files: [file]})).results[0].maps[0].image;
};

const answer = async ({file, entry, shown}) => {
  const picture = await thumbnail(file);
  if (picture) shown.show(picture);
  try {
    if (file.size > about.max_upload * MEBIBYTE) throw new Error(words.tooLarge(about.max_upload));
    [entry.record] = (await askPatiently("/api/describe", {method: "POST", files: [file]})).results;
  } catch (error) {
    entry.record = {name: entry.name, error: error.message};
    if (error.status === 401) askForKey();
  }
  shown.fill(entry.record, tell, about.explains ? (artist) => locate(file, artist) : null);
  showProgress();
};

const work = async () => {
  running += 1;
  while (waiting.length) await answer(waiting.shift());
  running -= 1;
};

const take = (files) => {
  if (!about) return;
  for (const file of files) {
    const entry = {name: file.name, record: null};
    const shown = card(file.name);
    entries.push(entry);
    waiting.push({file, entry, shown});
    at("results").append(shown.box);
  }
  showProgress();
  while (running < AT_ONCE && waiting.length > running) void work();
};

const askForKey = () => {
  at("key").hidden = false;
  at("key-text").focus();
};

const begin = async () => {
  try {
    about = await ask("/api/about");
  } catch (error) {
    at("about").textContent = error.message;
    if (error.status === 401) askForKey();
    return;
  }
  at("key").hidden = true;
  const panel = about.parts.includes("search") ? await artistPanel(about) : 0;
  at("about").textContent = words.about(about.parts.includes("classify") ? about.artists.length : 0, panel);
};

translate();
acceptDrops(at("drop"), ({files}) => take(files));
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault()); // beside the areas, too
addEventListener("paste", (event) => take([...event.clipboardData.files]));
at("files").addEventListener("change", ({target}) => { take([...target.files]); target.value = ""; });
at("save-json").addEventListener("click", () => save("artists.json", "application/json", `${JSON.stringify(entries.map(({record}) => record).filter(Boolean), null, 2)}\n`));
at("save-csv").addEventListener("click", () => save("artists.csv", "text/csv", csv(rows(entries.map(({record}) => record).filter(Boolean)))));
at("clear").addEventListener("click", () => {
  entries.length = waiting.length = 0;
  at("results").replaceChildren();
  showProgress();
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key-text").value);
  void begin();
});
await begin();
