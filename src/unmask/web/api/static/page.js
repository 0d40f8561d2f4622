"use strict";

// Text from a file or the service is set as text, never as markup.

const find = (selector, place = document) => place.querySelector(selector);
const results = find("#results");
let key = "";
let most = { files: 1, image_bytes: Infinity, video_bytes: Infinity }; // until the service has sent its limits

let model = null;
let isVideoName = /\.(mp4|mov|mkv|webm|avi)$/i; // likewise

async function ask(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) find("#key").hidden = false;
  if (!response.ok) {
    const problem = await response.json().catch(() => ({ detail: `The service answered ${response.status}.` }));
    throw new Error(problem.detail);
  }
  return response;
}

async function load(path) {
  return URL.createObjectURL(await (await ask(path)).blob());
}

// A proxy may serve this under a prefix that the service does not know: all URLs are relative to this page.
function beside(address) {
  return address.slice(address.lastIndexOf("/v1/jobs/") + 1);
}

function percent(value) {
  return `${Math.round(value * 100)} %`;
}

// Formatted as in unmask.inference.words, so that every entry point shows the same numbers.
const showScore = (score) => score.toFixed(3);
const nameFace = (track) => `face ${track + 1}`;

function showProbability(probability) {
  if (probability < 0.01) return "under 1 %";
  return probability > 0.99 ? "over 99 %" : percent(probability);
}

async function tellModel() {
  try {
    model = await (await ask("v1/model")).json();
    const { service, file } = model.limits;
    most = service;
    isVideoName = new RegExp(`(${model.formats.video_suffixes.map((suffix) => suffix.replace(".", "\\.")).join("|")})$`, "i");
    find("#model").textContent = `Model ${model.title}. Threshold ${showScore(model.decision.threshold)}.`;
    tell(find("#warning"), model.warning);
    const minutes = file.max_seconds ? ` and ${Math.round(file.max_seconds / 60)} minutes` : "";
    find("#limits").textContent =
      `Images of up to ${Math.round(service.image_bytes / 1e6)} MB, videos of up to ` +
      `${Math.round(service.video_bytes / 1e6)} MB${minutes}.`;
    find("#formats").textContent = `Images: ${model.formats.images.join(", ")}. Videos: ${model.formats.videos.join(", ")}.`;
  } catch (error) {
    find("#model").textContent = error.message;
  }
}

// Show a text, or hide its element if there is none.
function tell(place, text) {
  place.hidden = !text;
  place.textContent = text || "";
}

function openCard(name) {
  const card = find("#card").content.cloneNode(true).firstElementChild;
  find("h2", card).textContent = name;
  find(".close", card).addEventListener("click", () => {
    card.dispatchEvent(new Event("closed"));
    card.remove();
  });
  results.prepend(card);
  return card;
}

function say(card, text, share = null) {
  find(".state", card).textContent = text;
  const bar = find("progress", card);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

function fail(card, text) {
  find("progress", card).hidden = true;
  const state = find(".state", card);
  state.textContent = text;
  state.className = "state fake";
}

function showVerdict(card, result) {
  find("progress", card).hidden = true;
  find(".state", card).hidden = true;
  const headline = find(".headline", card);
  tell(headline, result.headline || result.verdict.replace("_", " "));
  headline.classList.add(result.verdict);
  const chance = result.probability === null ? "" : ` Calibrated probability of a fake: ${showProbability(result.probability)}.`;
  tell(find(".reason", card), result.reason + chance);
  tell(find(".warning", card), result.warning);
  if (result.kind === "video" && result.num_frames) {
    const [examined, all] = [result.num_examined, result.num_frames].map((count) => count.toLocaleString("en"));
    tell(find(".examined", card), `Examined ${examined} of ${all} frames.`);
  }
  if (result.score !== null) {
    const gauge = find(".gauge", card);
    gauge.hidden = false;
    gauge.classList.add(result.verdict);
    find(".bar", gauge).style.width = `${100 * result.score}%`;
    find(".mark", gauge).style.left = `calc(${100 * result.threshold}% - 1px)`;
  }
  const notes = find(".notes", card);
  notes.hidden = !result.notes.length;
  for (const note of result.notes) notes.append(Object.assign(document.createElement("li"), { textContent: note }));
  offerDownload(card, result);
}

// The API's answer and its model, without the images, which are many times as large.
function offerDownload(card, result) {
  const faces = result.faces.map(({ crop, heatmap, ...face }) => face);
  const { heatmaps, ...rest } = result;
  const { title, version, trained_on, warning, decision } = model || {};
  const content = { model: { title, version, trained_on, warning, decision }, ...rest, faces };
  const link = find(".download", card);
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  link.download = `${result.name.replace(/[^\p{L}\p{N}.-]+/gu, "_")}.json`;
  card.addEventListener("closed", () => URL.revokeObjectURL(link.href));
  find(".actions", card).hidden = false;
}

async function showImage(card, file, faces) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return; // a format that the service reads but this browser does not
  find(".whole", card).hidden = false;
  const canvas = find("canvas", card);
  // Draw at display size, so that boxes and scores are legible whatever the size of the image.
  const scale = Math.min(find(".whole", card).clientWidth / bitmap.width, 448 / bitmap.height, 3);
  const [width, height, dense] = [bitmap.width * scale, bitmap.height * scale, window.devicePixelRatio];
  canvas.width = Math.max(1, width * dense);
  canvas.height = Math.max(1, height * dense);
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  context.drawImage(bitmap, 0, 0, width, height);
  for (const face of faces) drawBox(context, face, face.box.map((value) => value * scale), width);
}

function drawBox(context, face, [left, top, right, bottom], width) {
  const style = getComputedStyle(document.documentElement);
  const [text, size] = [`${face.track + 1}: ${showScore(face.score)}`, 14];
  context.lineWidth = 2;
  context.strokeStyle = context.fillStyle = style.getPropertyValue(`--${face.verdict}`);
  context.strokeRect(left, top, right - left, bottom - top);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const broad = context.measureText(text).width + 8;
  const [x, y] = [Math.max(0, Math.min(left - 1, width - broad)), Math.max(0, top - size - 6)];
  context.fillRect(x, y, broad, size + 6);
  context.fillStyle = style.getPropertyValue("--card");
  context.textBaseline = "middle";
  context.fillText(text, x + 4, y + size / 2 + 4);
}

function addFace(card, caption, verdict, crop, heat) {
  const figure = find("#face").content.cloneNode(true).firstElementChild;
  find(".crop", figure).src = crop;
  const text = find("figcaption", figure);
  text.textContent = caption;
  text.className = verdict;
  const overlay = find(".heat", figure);
  const slider = find("input", figure);
  if (heat) {
    find(".scale", card).hidden = false;
    overlay.src = heat;
    const lay = () => (overlay.style.opacity = slider.value / 100);
    slider.addEventListener("input", lay);
    lay();
  } else {
    overlay.remove();
    find(".opacity", figure).remove();
  }
  find(".faces", card).append(figure);
}

async function judgeImages(files, cards) {
  cards.forEach((card) => say(card, "Reading and scoring …"));
  const body = new FormData();
  files.forEach((file) => body.append("files", file));
  try {
    const { results: rows } = await (await ask("v1/images", { method: "POST", body })).json();
    rows.forEach((row, place) => {
      if (row.error) return fail(cards[place], row.error);
      showVerdict(cards[place], row);
      showImage(cards[place], files[place], row.faces);
      for (const face of row.faces) {
        if (face.crop) addFace(cards[place], `Face ${face.track + 1}: ${face.verdict}, ${showScore(face.score)}`, face.verdict, face.crop, face.heatmap);
      }
    });
  } catch (error) {
    cards.forEach((card) => fail(card, error.message));
  }
}

function send(file, card) {
  // XMLHttpRequest, since fetch does not report upload progress.
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/videos");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => say(card, `Sending: ${percent(event.loaded / event.total)}`, event.loaded / event.total);
    request.onload = () => {
      if (request.status === 202) return resolve(request.response);
      if (request.status === 401) find("#key").hidden = false;
      reject(new Error(request.response ? request.response.detail : `The service answered ${request.status}.`));
    };
    request.onerror = () => reject(new Error("The connection was lost."));
    const body = new FormData();
    body.append("files", file);
    request.send(body);
    card.addEventListener("closed", () => request.abort());
  });
}

async function judgeVideo(file, card) {
  if (!card.isConnected) return;
  let isClosed = false;
  try {
    let job = await send(file, card);
    const address = `v1/jobs/${job.id}`;
    card.addEventListener("closed", () => {
      isClosed = true;
      ask(address, { method: "DELETE" }).catch(() => {});
    });
    while (!isClosed && (job.state === "queued" || job.state === "running")) {
      const { done, total } = job.progress;
      if (job.state === "queued") say(card, "Waiting for its turn …");
      else say(card, total ? `${done} of ${total} frames` : "Opening the video …", total ? done / total : null);
      await new Promise((resolve) => setTimeout(resolve, 700));
      job = await (await ask(address)).json();
    }
    if (isClosed) return;
    if (job.error) return fail(card, job.error.detail);
    showVerdict(card, job.result);
    drawTimeline(card, job.result);
    for (const drawing of job.result.heatmaps) {
      const seen = job.result.frames.find((frame) => frame.index === drawing.frame).faces.find((face) => face.track === drawing.track);
      const caption = `${drawing.time_seconds.toFixed(1)} s, ${nameFace(drawing.track)}: ${showScore(seen.score)}`;
      addFace(card, caption, seen.verdict, await load(beside(drawing.crop)), drawing.heatmap ? await load(beside(drawing.heatmap)) : null);
    }
  } catch (error) {
    if (!isClosed) fail(card, error.message);
  }
}

// A dot per face and examined frame, not a line: nothing is known between them.
function drawTimeline(card, result) {
  const frames = result.frames.filter((frame) => frame.faces.length);
  if (frames.length < 2) return;
  const place = find(".timeline", card);
  place.hidden = false;
  const [width, height, left, bottom] = [Math.max(260, place.clientWidth), 190, 30, 22];
  const end = result.frames[result.frames.length - 1].time_seconds || 1;
  const across = (seconds) => left + (seconds / end) * (width - left - 12);
  const up = (score) => 10 + (1 - score) * (height - bottom - 20);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Scores of the examined frames over time. ${result.headline}`);
  const add = (name, attributes, text = "") => {
    const node = document.createElementNS(space, name);
    for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
    node.textContent = text;
    svg.append(node);
    return node;
  };
  for (const stretch of result.suspicious) {
    const [from, to] = [across(stretch.start_seconds) - 5, across(stretch.end_seconds) + 5];
    add("rect", { x: from, y: 10, width: to - from, height: height - bottom - 20, class: "stretch" });
  }
  add("line", { x1: left, x2: width - 12, y1: up(result.threshold), y2: up(result.threshold), class: "threshold" });
  const tracks = [...new Set(frames.flatMap((frame) => frame.faces.map((face) => face.track)))];
  for (const frame of frames) {
    for (const face of frame.faces) {
      const attributes = { cx: across(frame.time_seconds), cy: up(face.score), r: frames.length > 100 ? 2 : 4, class: `dot person${tracks.indexOf(face.track) % 8}` };
      const dot = add("circle", attributes);
      const title = document.createElementNS(space, "title");
      title.textContent = `${frame.time_seconds.toFixed(1)} s, ${nameFace(face.track)}: ${showScore(face.score)}`;
      dot.append(title);
    }
  }
  for (const value of [0, 1]) add("text", { x: 4, y: up(value) + 4 }, value.toFixed(1));
  add("text", { x: left, y: height - 5 }, "0 s");
  add("text", { x: width - 12, y: height - 5, "text-anchor": "end" }, `${end.toFixed(1)} s`);
  place.append(svg, listPersons(result, tracks));
}

// The legend: the colour and the verdict of each face.
function listPersons(result, tracks) {
  const list = Object.assign(document.createElement("ul"), { className: "persons" });
  const add = (className, text) => {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("span"), { className }), text);
    list.append(item);
  };
  tracks.slice(0, 8).forEach((track, number) => {
    const face = result.faces.find((row) => row.track === track);
    const role = face.decides ? "" : ", does not decide";
    add(`swatch person${number}`, `Face ${track + 1}: ${face.verdict}, ${showScore(face.score)}${role}`);
  });
  if (tracks.length > 8) add("swatch", `and ${tracks.length - 8} more, in the same colours`);
  add("swatch threshold", `threshold ${showScore(result.threshold)}`);
  if (result.suspicious.length) add("swatch stretch", "looks forged");
  return list;
}

function isVideo(file) {
  return file.type.startsWith("video/") || isVideoName.test(file.name);
}

// The service would abort such an upload, and browsers hide from a page why an upload was aborted.
function fits(file) {
  const bytes = isVideo(file) ? most.video_bytes : most.image_bytes;
  if (file.size <= bytes) return true;
  const megabytes = (value) => (value / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
  fail(openCard(file.name), `The file has ${megabytes(file.size)} MB; the limit is ${megabytes(bytes)} MB. Trim or compress it.`);
  return false;
}

// Send no more files at a time than the service accepts, however many are dropped.
function take(list) {
  const files = [...list].filter(fits);
  const cards = new Map(files.map((file) => [file, openCard(file.name)]));
  for (const card of cards.values()) say(card, "Waiting for its turn …");
  takeImages(files.filter((file) => !isVideo(file)), cards);
  takeVideos(files.filter(isVideo), cards);
}

async function takeImages(files, cards) {
  for (let first = 0; first < files.length; first += most.files) {
    const some = files.slice(first, first + most.files).filter((file) => cards.get(file).isConnected);
    if (!some.length) continue;
    await judgeImages(some, some.map((file) => cards.get(file)));
  }
}

async function takeVideos(files, cards) {
  for (const file of files) await judgeVideo(file, cards.get(file));
}

const drop = find("#drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
find("#choose").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = "";
});
find("#key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("#key-value").value;
  find("#key").hidden = true;
  tellModel();
});
tellModel();
