// Answers as cards. All text is set as text: a name that holds HTML stays a name.

import {words} from "./words.js";

const PRESENT = 0.5; // confidence from which on an artist of several becomes a tag
const THUMBNAIL = 640; // px
const LEAST = 0.005; // of an artist that is shown beside the first

const element = (name, className = "", text = "") => Object.assign(document.createElement(name), {className, textContent: text});
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const worth = (entry) => entry.calibrated_probability ?? entry.probability;

// The same for an artist in all cards; neighbours in the list of artists are far apart on the circle of colours.
const colourOf = (number) => `hsl(${(20 + 137.5 * number) % 360} 50% 48%)`;

// A name that may be broken behind its underscores.
export const named = (name) => {
  const box = element("span");
  name.split(/(?<=[_/])/).forEach((part, number) => box.append(...(number ? [element("wbr")] : []), part));
  return box;
};

// `button` is a function that makes one for a name, or null.
const line = (name, figure, button = null) => {
  const row = element("div", "name");
  row.append(named(name), element("span", "figure", figure), ...(button ? [button(name)] : []));
  return row;
};

const bars = (entries, button = null) => {
  const list = element("ul", "list");
  for (const [name, value] of entries.filter(([, value], number) => !number || value >= LEAST)) {
    const item = element("li");
    const bar = element("div", "bar");
    const filled = element("i");
    filled.style.width = `${100 * value}%`;
    bar.append(filled);
    item.append(line(name, percent(value), button), bar);
    list.append(item);
  }
  return list;
};

const stack = (labels, button) => {
  const bar = element("div", "stack");
  const list = element("ul", "list");
  bar.setAttribute("aria-hidden", "true");
  for (const {class_id: number, label, ratio, confidence} of labels) {
    const colour = colourOf(number);
    const part = element("i");
    part.style.width = `${100 * ratio}%`;
    part.style.background = colour;
    bar.append(part);
    const item = element("li");
    const row = line(label, `${percent(ratio)} (${percent(confidence)})`, button);
    const key = element("i", "key");
    key.style.background = colour;
    row.firstChild.prepend(key);
    item.append(row);
    list.append(item);
  }
  const box = element("div");
  box.append(bar, list);
  return box;
};

// The artists of a record, the surest first; where the network names none, those of the gallery.
export const artistsOf = (record) => {
  if (record.labels) return record.labels.filter(({confidence}) => confidence >= PRESENT).map(({label}) => label);
  if (record.verdict === "unknown") return [];
  const first = record.classification?.[0]?.class_name ?? record.artists_by_neighbours?.[0]?.artist;
  return first === undefined ? [] : [first];
};

const tag = (name) => name.replaceAll(",", " ").replaceAll("_", " ").trim();
export const tags = (record) => artistsOf(record).map(tag).join(", ");
export const booruTags = (record) => artistsOf(record).map(
  (name) => tag(name).toLowerCase().replaceAll(/\s+/g, "_").replaceAll(/[()\\]/g, "\\$&")).join(", ");

const copier = (label, text, told) => {
  const button = element("button", "", label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      told(words.copied);
    } catch {
      told(words.cannotCopy);
    }
  });
  return button;
};

export const thumbnail = async (file) => {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
    const canvas = Object.assign(document.createElement("canvas"), {
      width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale))});
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
  } catch {
    return null; // a format that the browser cannot show; the service may read it all the same
  }
};

// An empty card, and how it is filled.
export const card = (name) => {
  const box = element("li", "card");
  const picture = element("div", "none");
  const body = element("div", "body");
  body.append(element("h2", "", name), element("p", "soft", words.waiting));
  box.append(picture, body);
  let shown = picture;
  return {
    box,
    show: (blob) => {
      const image = Object.assign(element("img"), {alt: "", src: URL.createObjectURL(blob)});
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), {once: true});
      picture.replaceWith(image);
      shown = image;
    },
    fill: (record, told, locate) => body.replaceChildren(
      element("h2", "", name), ...parts(record, told, locate && mapButtons(shown, told, locate))),
  };
};

// Makes the buttons of a card that lay the map of an artist over its picture, or take it away; one map at a time.
const mapButtons = (picture, told, locate) => {
  const map = element("img");
  const meaning = element("p", "soft meaning");
  const found = new Map(); // by artist, data: addresses
  let pressed = null;
  map.hidden = meaning.hidden = true;
  picture.after(map, meaning);
  const press = (button, name, image) => {
    pressed?.setAttribute("aria-pressed", "false");
    pressed = button;
    button?.setAttribute("aria-pressed", "true");
    picture.hidden = Boolean(button);
    map.hidden = meaning.hidden = !button;
    if (button) Object.assign(map, {src: image, alt: words.mapOf(name)});
    meaning.textContent = button ? words.mapMeaning(name) : "";
    told(button ? words.mapShown(name) : words.mapHidden);
  };
  return (name) => {
    const button = element("button", "map", words.map);
    button.setAttribute("aria-label", words.mapOf(name));
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", async () => {
      if (button === pressed) return press(null);
      if (button.ariaBusy === "true") return undefined;
      button.ariaBusy = "true";
      try {
        if (!found.has(name)) found.set(name, await locate(name));
        return press(button, name, found.get(name));
      } catch (error) {
        return told(error.message);
      } finally {
        button.ariaBusy = "false";
      }
    });
    return button;
  };
};

const parts = (record, told, button) => {
  if (record.error) return [element("p", "bad", record.error)];
  const shown = [];
  const add = (title, content) => shown.push(element("h3", "", title), content);
  if (record.verdict) shown.push(element("p", `verdict ${record.verdict}`, words[record.verdict](record.classification[0]?.class_name)));
  if (record.classification) add(words.artists, bars(record.classification.map((each) => [each.class_name, worth(each)]), button));
  if (record.labels?.length) add(words.shares, stack(record.labels, button));
  if (record.labels?.length === 0) shown.push(element("p", "soft", words.nobody));
  if (record.artists_by_neighbours) add(words.byVote, bars(record.artists_by_neighbours.slice(0, 3).map((each) => [each.artist, each.share])));
  if (record.pictures) {
    const list = element("ul", "list");
    for (const {image, artist, cosine_similarity: closeness} of record.pictures.slice(0, 5)) {
      const item = element("li");
      item.append(line(`${artist} · ${image.slice(image.lastIndexOf("/") + 1)}`, closeness.toFixed(3)));
      list.append(item);
    }
    add(words.nearest, list);
  }
  const row = element("div", "row");
  if (artistsOf(record).length) row.append(copier(words.copy, tags(record), told), copier(words.booru, booruTags(record), told));
  return [...shown, row];
};

// One row per picture and artist, for CSV.
export const rows = (records) => [
  ["picture", "verdict", "artist", "probability", "share", "nearest_picture", "error"],
  ...records.flatMap((record) => {
    const nearest = record.pictures?.[0]?.image;
    const named = record.labels?.map(({label, confidence, ratio}) => [label, confidence, ratio])
      ?? record.classification?.map((each) => [each.class_name, worth(each), ""])
      ?? record.artists_by_neighbours?.map(({artist, share}) => [artist, "", share]) ?? [];
    return (named.length ? named : [["", "", ""]]).map((each) => [record.name, record.verdict, ...each, nearest, record.error]);
  })];
