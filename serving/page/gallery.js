// The gallery's artists; where it may be written to, they are added and removed here.

import {acceptDrops} from "./files.js";
import {named} from "./results.js";
import {ask, askPatiently} from "./service.js";
import {words} from "./words.js";

const at = (id) => document.getElementById(id);
const element = (name, text = "") => Object.assign(document.createElement(name), {textContent: text});
const tell = (text, bad = false) => {
  at("gallery-told").textContent = text;
  at("gallery-told").className = bad ? "bad" : "";
};

const remove = async (artist) => {
  if (!confirm(words.removing(artist))) return;
  try {
    await ask(`/api/gallery?artist=${encodeURIComponent(artist)}`, {method: "DELETE"});
    await show(true);
    tell(words.removed(artist));
  } catch (error) {
    tell(error.message, true);
  }
};

const show = async (writable) => {
  const {artists} = await ask("/api/gallery");
  at("artists").replaceChildren(...artists.map(({artist, pictures}) => {
    const item = element("li");
    const count = Object.assign(element("span", words.pictures(pictures)), {className: "soft"});
    item.append(named(artist), count);
    if (writable) {
      const button = element("button", words.remove);
      button.setAttribute("aria-label", words.removeNamed(artist));
      button.addEventListener("click", () => remove(artist));
      item.append(button);
    }
    return item;
  }));
  return artists.length;
};

const add = async (artist, files, about) => {
  if (!artist) {
    tell(words.nameFirst, true);
    at("artist").focus();
    return;
  }
  const failures = [];
  let count = 0;
  for (const part of portions(files, about)) {
    try {
      const answer = await askPatiently(`/api/gallery?artist=${encodeURIComponent(artist)}`, {method: "POST", files: part});
      count += answer.added;
      failures.push(...answer.failures.map(({name, error}) => `${name}: ${error}`));
    } catch (error) {
      failures.push(error.message);
    }
  }
  at("artist").value = "";
  await show(true);
  tell([words.added(artist, count), ...failures].join(" "), !count);
};

// As many pictures per request as the service takes.
const portions = (files, {max_pictures: most, max_upload: mebibytes}) => {
  const parts = [];
  let size = Infinity;
  for (const file of files) {
    if (size + file.size > 0.9 * mebibytes * 2 ** 20 || parts.at(-1).length >= most) {
      parts.push([]);
      size = 0;
    }
    parts.at(-1).push(file);
    size += file.size;
  }
  return parts;
};

export const artistPanel = async (about) => {
  at("gallery").hidden = false;
  at("adding").hidden = !about.writable;
  if (about.writable && !at("gallery").dataset.ready) {
    at("gallery").dataset.ready = "yes";
    at("folder").addEventListener("change", async ({target}) => {
      await add(at("artist").value.trim(), [...target.files], about);
      target.value = "";
    });
    acceptDrops(at("gallery"), ({files, folder}) => add(at("artist").value.trim() || folder, files, about));
  }
  return show(about.writable);
};
