// The words of the page in English and Chinese; the browser's first language of these two decides.

const english = {
  title: "Whose hand is this?", drop: "Drop pictures here", paste: "or paste them, or a whole folder",
  choose: "Choose pictures", key: "This service asks for its API key:", use: "Use",
  json: "Save JSON", csv: "Save CSV", clear: "Clear", gallery: "Artists of the gallery",
  adding: "Drop an artist's folder here, or type a name and choose pictures.", artist: "Name of the artist",
  add: "Add pictures", remove: "Remove", removing: (name) => `Remove ${name}, with all pictures?`,
  removed: (name) => `${name} is removed.`, removeNamed: (name) => `Remove ${name}`,
  added: (name, count) => `${count} ${count === 1 ? "picture" : "pictures"} of ${name} added.`,
  nameFirst: "Type the artist's name first.",
  local: "Pictures are sent to this service only, and are not kept.",
  about: (artists, gallery) => [artists && `knows ${artists} artists`, gallery && `searches a gallery of ${gallery}`].filter(Boolean).join(", "),
  progress: (done, all, failed) => `${done} of ${all} pictures answered${failed ? `, ${failed} of them could not be read` : ""}.`,
  confident: (name) => `Confident: ${name}`, possible: (name) => `Possible: ${name}`, unknown: () => "Unknown: none of the artists it knows",
  artists: "Artists", shares: "Shares of the artists", nearest: "Nearest in the gallery", byVote: "By the nearest pictures",
  pictures: (count) => `${count}`, copy: "Copy tags", booru: "Copy Danbooru tags", copied: "Copied.", cannotCopy: "The browser does not allow copying.",
  map: "Map", mapOf: (name) => `Map of ${name} over the picture`, mapShown: (name) => `The map of ${name} is shown.`, mapHidden: "The picture is shown.",
  mapMeaning: (name) => `Red: speaks for ${name} more than the picture's mean. Blue: less. Pale: not seen by the network.`,
  nobody: "No artist", waiting: "Waiting …", lost: "The service cannot be reached.", tooLarge: (limit) => `larger than ${limit} MiB`,
};

const chinese = {
  title: "这是谁的画？", drop: "把图片拖到这里", paste: "也可以粘贴图片，或拖入整个文件夹",
  choose: "选择图片", key: "请输入此服务的 API 密钥：", use: "确定",
  json: "保存 JSON", csv: "保存 CSV", clear: "清空", gallery: "图库中的画师",
  adding: "把画师的文件夹拖到这里，或输入名字并选择图片。", artist: "画师名",
  add: "添加图片", remove: "删除", removing: (name) => `删除 ${name} 及其全部图片？`,
  removed: (name) => `已删除 ${name}。`, removeNamed: (name) => `删除 ${name}`,
  added: (name, count) => `已添加 ${name} 的 ${count} 张图片。`,
  nameFirst: "请先输入画师名。",
  local: "图片只发送到这个服务，不会被保存。",
  about: (artists, gallery) => [artists && `认识 ${artists} 位画师`, gallery && `图库中有 ${gallery} 位画师`].filter(Boolean).join("，"),
  progress: (done, all, failed) => `已处理 ${done} / ${all} 张图片${failed ? `，其中 ${failed} 张无法读取` : ""}。`,
  confident: (name) => `确定：${name}`, possible: (name) => `可能：${name}`, unknown: () => "未知：不是它认识的画师",
  artists: "画师", shares: "各画师的比重", nearest: "图库中最相近的图片", byVote: "按最相近的图片",
  pictures: (count) => `${count} 张`, copy: "复制标签", booru: "复制 Danbooru 标签", copied: "已复制。", cannotCopy: "浏览器不允许复制。",
  map: "热图", mapOf: (name) => `在图上显示 ${name} 的热图`, mapShown: (name) => `已显示 ${name} 的热图。`, mapHidden: "已恢复原图。",
  mapMeaning: (name) => `红色：比全图平均更像 ${name}；蓝色：更不像；发白：网络没有看到的部分。`,
  nobody: "没有画师", waiting: "等待中……", lost: "无法连接服务。", tooLarge: (limit) => `超过 ${limit} MiB`,
};

const language = navigator.languages.map((name) => name.slice(0, 2).toLowerCase()).find((name) => ["en", "zh"].includes(name)) ?? "en";
export const words = language === "zh" ? chinese : english;

export const translate = () => {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = words[each.dataset.word];
  document.title = words.title;
};
