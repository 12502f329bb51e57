// Pictures that are dropped or pasted, folders with all that is in them; and files that are saved.

const read = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

const listed = async (folder) => {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const more = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!more.length) return entries;
    entries.push(...more);
  }
};

const within = async (entry) => {
  if (entry.isFile) return [await read(entry)];
  const inner = await Promise.all((await listed(entry)).filter(({name}) => !name.startsWith(".")).map(within));
  return inner.flat();
};

// The files of a drop, and the name of the folder if one was dropped. Entries must be asked for before the first await.
const dropped = async (transfer) => {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  const folder = entries.length === 1 && entries[0].isDirectory ? entries[0].name : "";
  return {files: entries.length ? (await Promise.all(entries.map(within))).flat() : files, folder};
};

// Gives what is dropped on an area to `take`.
export const acceptDrops = (area, take) => {
  for (const kind of ["dragenter", "dragover"]) area.addEventListener(kind, (event) => { event.preventDefault(); area.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) area.addEventListener(kind, () => area.classList.remove("over"));
  area.addEventListener("drop", async (event) => {
    event.preventDefault();
    take(await dropped(event.dataTransfer));
  });
};

export const save = (name, type, text) => {
  const address = URL.createObjectURL(new Blob([text], {type}));
  Object.assign(document.createElement("a"), {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
};

// A cell that begins like a formula would be run by a spreadsheet.
const cell = (value) => {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

export const csv = (rows) => `\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
