"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const short = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5 ? String(+value.toPrecision(3)) : value.toExponential(1));

  // Tables that sort.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((one) => one.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)], [p, q] = [parseFloat(x), parseFloat(y)];
        if (Number.isNaN(p) !== Number.isNaN(q)) return Number.isNaN(p) ? 1 : -1;
        return (up ? 1 : -1) * (Number.isNaN(p) ? x.localeCompare(y) : p - q);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    }));
  }

  // Curves of the randomisation.
  const make = (name, attributes, text) => {
    const found = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    if (text !== undefined) found.textContent = text;
    return found;
  };
  for (const box of document.querySelectorAll(".curves")) {
    const { stages, lines } = JSON.parse(box.dataset.curves), svg = box.querySelector("svg"), legend = box.querySelector(".legend");
    const x = (i) => 45 + (stages.length > 1 ? (i * 530) / (stages.length - 1) : 265), y = (v) => 245 - 235 * v;
    for (const v of [0, 0.25, 0.5, 0.75, 1]) svg.append(make("line", { x1: 45, x2: 580, y1: y(v), y2: y(v) }), make("text", { x: 38, y: y(v) + 4, "text-anchor": "end" }, v));
    stages.forEach((stage, i) => {
      const words = stage.length > 22 ? stage.slice(0, 21) + "…" : stage;
      const label = make("text", { transform: `translate(${x(i)} 262) rotate(28)` }, words);
      label.append(make("title", {}, stage));
      svg.append(label);
    });
    const band = make("polygon", { points: "" });
    svg.append(band);
    const known = (one) => stages.map((_, i) => i).filter((i) => one.mean[i] !== null);
    const drawn = lines.map((one) => {
      const path = make("path", { d: known(one).map((i, n) => `${n ? "L" : "M"}${x(i)} ${y(one.mean[i])}`).join("") });
      path.append(make("title", {}, one.method));
      svg.append(path);
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.method;
      legend.append(button);
      return { one, path, button };
    });
    const choose = (chosen) => {
      for (const { path, button } of drawn) { path.classList.toggle("on", path === chosen.path); button.setAttribute("aria-pressed", path === chosen.path); }
      svg.append(chosen.path);
      const all = known(chosen.one), corner = (name) => (i) => `${x(i)},${y(chosen.one[name][i] ?? chosen.one.mean[i])}`;
      band.setAttribute("points", [...all.map(corner("low")), ...all.reverse().map(corner("high"))].join(" "));
    };
    for (const one of drawn) for (const target of [one.button, one.path]) target.addEventListener("click", () => choose(one));
    for (const one of drawn) one.button.addEventListener("focus", () => choose(one));
    if (drawn.length) choose(drawn[0]);
  }

  // The gallery.
  if (!$("data")) return;
  const { images, sets, stays: STAYS, first } = JSON.parse($("data").textContent);
  // The same colours as in rendering/_picture.py; they are linear in the value, so that averages look like what they average.
  const FOR = [178, 24, 43], AGAINST = [33, 102, 172], AMOUNT = [217, 95, 2], COVER = 0.9;
  const end = (signed, share) => (signed ? (share < 0 ? AGAINST : FOR) : AMOUNT);
  const state = { image: 0, method: first, target: "", network: "", zoom: 1, x: 0, y: 0 };
  const stage = $("stage"), context = stage.getContext("2d");
  const loaded = new Map();
  const load = (uri) => {
    if (!loaded.has(uri)) {
      loaded.set(uri, new Promise((resolve, reject) => { const picture = new Image(); picture.onload = () => resolve(picture); picture.onerror = reject; picture.src = uri; }));
      // Decoded pictures take far more room than the page itself.
      if (loaded.size > 120) loaded.delete(loaded.keys().next().value);
    }
    return loaded.get(uri);
  };
  const distinct = (values) => [...new Set(values)];
  const mapOf = (set) => set && set.maps.find((map) => map.image === state.image);
  const setOf = (wanted) => sets.find((set) => Object.entries(wanted).every(([key, value]) => set[key] === value) && mapOf(set));
  const values = async (map) => {
    if (map.values) return map.values;
    const picture = await load(map.map), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [map.width, map.height];
    const own = canvas.getContext("2d", { willReadFrequently: true });
    own.drawImage(picture, 0, 0);
    const bytes = own.getImageData(0, 0, map.width, map.height).data, found = new Float32Array(map.width * map.height);
    for (let i = 0; i < found.length; i++) found[i] = map.signed ? (bytes[4 * i] - 128) / 127 : bytes[4 * i] / 255;
    return (map.values = found);
  };
  // Bilinear with corners not aligned, as the maps are made at the images' size.
  const at = (found, map, u, v) => {
    const x = Math.min(Math.max(u * map.width - 0.5, 0), map.width - 1), y = Math.min(Math.max(v * map.height - 0.5, 0), map.height - 1);
    const i = Math.min(Math.floor(x), map.width - 1), j = Math.min(Math.floor(y), map.height - 1), k = Math.min(i + 1, map.width - 1), l = Math.min(j + 1, map.height - 1);
    const [s, t] = [x - i, y - j], w = map.width;
    return (found[j * w + i] * (1 - s) + found[j * w + k] * s) * (1 - t) + (found[l * w + i] * (1 - s) + found[l * w + k] * s) * t;
  };
  // Fewer rows, each the average over its area.
  const fewer = (found, rows, columns, count) => {
    const out = new Float32Array(count * columns);
    for (let r = 0; r < count; r++) {
      const low = (r * rows) / count, high = ((r + 1) * rows) / count;
      for (let j = Math.floor(low); j < Math.min(Math.ceil(high), rows); j++) {
        const weight = ((Math.min(high, j + 1) - Math.max(low, j)) * count) / rows;
        for (let i = 0; i < columns; i++) out[r * columns + i] += weight * found[j * columns + i];
      }
    }
    return out;
  };
  const turned = (found, rows, columns) => Float32Array.from(found, (_, n) => found[(n % rows) * columns + Math.floor(n / rows)]);
  const sized = (given, of, width, height) => {
    let found = given, map = { width: of.width, height: of.height };
    if (height < map.height) { found = fewer(found, map.height, map.width, height); map = { ...map, height }; }
    if (width < map.width) {
      found = turned(fewer(turned(found, map.height, map.width), map.width, map.height, width), width, map.height);
      map = { ...map, width };
    }
    if (width === map.width && height === map.height) return found;
    const large = new Float32Array(width * height);
    for (let j = 0; j < height; j++) for (let i = 0; i < width; i++) large[j * width + i] = at(found, map, (i + 0.5) / width, (j + 0.5) / height);
    return large;
  };
  const coloured = (found, map, width, height, strength) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const own = canvas.getContext("2d"), pixels = own.createImageData(width, height);
    found.forEach((value, i) => {
      const share = Math.max(-1, Math.min(1, value / map.clip));
      // Up to half strength only what the map marks covers the picture; from there on a white veil does as well.
      const veil = Math.max(0, 2 * strength - 1), cover = COVER * Math.min(1, 2 * strength) * Math.abs(share);
      const alpha = cover + (1 - cover) * veil, ink = alpha ? cover / alpha : 0;
      pixels.data.set([...end(map.signed, share).map((c) => c * ink + 255 * (1 - ink)), 255 * alpha], 4 * i);
    });
    own.putImageData(pixels, 0, 0);
    return canvas;
  };
  const hullOf = (found, width, height, cut) => {
    let most = 0;
    for (const value of found) most = Math.max(most, Math.abs(value));
    if (!most) return [];
    const points = [];
    for (let j = 0; j < height; j++) {
      let first = -1, last = -1;
      for (let i = 0; i < width; i++) if (Math.abs(found[j * width + i]) >= cut * most) { if (first < 0) first = i; last = i; }
      // Corners of pixels, so that one pixel has an area.
      if (first >= 0) points.push([first, j], [last + 1, j], [first, j + 1], [last + 1, j + 1]);
    }
    points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
    const half = (row) => { const out = []; for (const p of row) { while (out.length > 1 && turn(out.at(-2), out.at(-1), p) <= 0) out.pop(); out.push(p); } out.pop(); return out; };
    return [...half(points), ...half(points.slice().reverse())];
  };
  let shown = null, turn = 0;
  const fill = (select, options, chosen) => {
    select.replaceChildren(...options.map((text) => new Option(text, text)));
    select.value = options.includes(chosen) ? chosen : options[0];
    return select.value;
  };
  const choices = () => {
    const here = sets.filter((set) => mapOf(set));
    state.method = fill($("method"), distinct(here.map((set) => set.method)), state.method);
    const targets = here.filter((set) => set.method === state.method);
    state.target = fill($("target"), distinct(targets.map((set) => set.target)), state.target);
    const networks = targets.filter((set) => set.target === state.target);
    state.network = fill($("network"), distinct(networks.map((set) => set.network)), state.network);
    for (const name of ["target", "network"]) $(name).closest("label").hidden = $(name).options.length < 2 && sets.every((set) => set[name] === sets[0][name]);
  };
  const draw = () => {
    if (!shown) return;
    const { picture, image, map } = shown;
    const scale = stage.width / image.width, ratio = state.zoom;
    // Where the picture is shrunk, the map is averaged before it is coloured.
    const wide = Math.min(image.width, Math.round(stage.width * ratio)), high = Math.max(1, Math.round((image.height * wide) / image.width));
    if (shown.overlay?.width !== wide) {
      const found = wide === image.width ? shown.large : sized(shown.large, image, wide, high);
      shown.overlay = coloured(found, map, wide, high, $("strength").value / 100);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, stage.width, stage.height);
    context.setTransform(scale * ratio, 0, 0, scale * ratio, -state.x * scale * ratio, -state.y * scale * ratio);
    context.imageSmoothingEnabled = ratio < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, image.width, image.height);
    context.drawImage(shown.overlay, 0, 0, image.width, image.height);
    const outline = (points, width, height, ink, dashes) => {
      if (!points.length) return;
      const trace = () => { context.beginPath(); points.forEach(([px, py], n) => context[n ? "lineTo" : "moveTo"]((px * image.width) / width, (py * image.height) / height)); context.closePath(); };
      const unit = stage.width / 640 / (scale * ratio);
      for (const [style, wide] of [["#000000", 4.5], [ink, 2.2]]) { context.setLineDash(style === ink ? dashes.map((d) => d * unit) : []); context.strokeStyle = style; context.lineWidth = wide * unit; trace(); context.stroke(); }
      context.setLineDash([]);
    };
    const cut = $("cut").value / 100;
    if ($("hull").checked) outline(hullOf(shown.large, image.width, image.height, cut), image.width, image.height, "#ffffff", []);
    if (shown.stays && $("gadhull").checked) outline(hullOf(shown.stays, image.width, image.height, cut), image.width, image.height, "#ffd000", [8, 5]);
    $("strengthsaid").textContent = `${$("strength").value} %`;
    $("cutsaid").textContent = `${$("cut").value} %`;
    const top = map.scale * map.clip;
    $("least").textContent = map.signed ? `against ${short(-top)}` : "0";
    $("most").textContent = map.signed ? `${short(top)} for` : `${short(top)} most`;
    const meaning = map.signed ? "Red is evidence for what is explained, blue against it." : "Orange is how much; this map has no sign.";
    const clipped = map.largest > top * 1.005 ? `, the 98th percentile of magnitude; larger values, up to ${short(map.largest)}, have the same colour` : ", the largest magnitude";
    $("scalesaid").textContent = map.largest ? `${meaning} Colours end at ${short(top)}${clipped}.` : "This map is zero everywhere.";
  };
  const ramp = (signed) => {
    const own = $("ramp").getContext("2d");
    for (let i = 0; i < 120; i++) {
      const share = signed ? (2 * i) / 119 - 1 : i / 119, cover = COVER * Math.abs(share);
      own.fillStyle = `rgb(${end(signed, share).map((c) => Math.round(c * cover + 255 * (1 - cover)))})`;
      own.fillRect(i, 0, 1, 10);
    }
  };
  const show = async () => {
    const mine = ++turn;
    choices();
    const image = images[state.image], set = setOf({ method: state.method, target: state.target, network: state.network }), map = mapOf(set);
    if (![...$("image").options].some((one) => one.value === String(state.image))) { $("filter").value = ""; offer(); }
    $("image").value = state.image;
    const stays = setOf({ method: state.method, target: state.target, network: STAYS });
    $("gadcheck").hidden = !stays;
    const [picture, found, other] = await Promise.all([load(image.picture), values(map), stays ? values(mapOf(stays)) : null]);
    if (mine !== turn) return;
    stage.height = Math.round((stage.width * image.height) / image.width);
    const large = sized(found, map, image.width, image.height);
    shown = { picture, image, map, large, stays: other && sized(other, mapOf(stays), image.width, image.height) };
    ramp(map.signed);
    $("caption").textContent = map.caption || image.name;
    const coarse = map.width < map.columns ? `The map is shown, and hulls are drawn, at ${map.width} x ${map.height} px instead of ${map.columns} x ${map.rows}; sightline report FOLDER --page-side ${Math.max(map.columns, map.rows)} shows it whole.` : "";
    $("notes").textContent = [...image.notes, coarse, map.whole ? "" : "Some values of this map are not finite and are shown as zero."].join(" ");
    stage.setAttribute("aria-label", `${(map.caption || image.name).replace(/\n/g, ", ")}; map of ${state.method}, ${state.target}, ${state.network}`);
    draw();
    strip(mine);
  };
  const strip = async (mine) => {
    const box = $("strip"), methods = distinct(sets.filter((set) => mapOf(set)).map((set) => set.method));
    if (box.dataset.image !== String(state.image) || box.childElementCount !== methods.length || box.dataset.of !== state.target + state.network) {
      box.dataset.image = state.image;
      box.dataset.of = state.target + state.network;
      const made = await Promise.all(methods.map(async (method) => {
        const set = setOf({ method, target: state.target, network: state.network }) ?? setOf({ method, target: state.target }) ?? setOf({ method }), map = mapOf(set), image = images[state.image];
        const canvas = document.createElement("canvas"), high = Math.round((96 * image.height) / image.width);
        [canvas.width, canvas.height] = [96, high];
        const own = canvas.getContext("2d"), [picture, found] = await Promise.all([load(image.picture), values(map)]);
        own.imageSmoothingQuality = "high";
        own.drawImage(picture, 0, 0, 96, high);
        own.drawImage(coloured(sized(found, map, 96, high), map, 96, high, 0.6), 0, 0);
        const button = document.createElement("button");
        button.type = "button";
        button.dataset.method = method;
        // Names break after an underscore, not within a word.
        button.append(canvas, ...method.split(/(?<=_)/).flatMap((part, n) => (n ? [document.createElement("wbr"), part] : [part])));
        button.addEventListener("click", () => { state.method = method; show(); });
        return button;
      }));
      if (mine !== turn) { delete box.dataset.image; return; }
      box.replaceChildren(...made);
    }
    for (const button of box.children) button.setAttribute("aria-pressed", button.dataset.method === state.method);
  };
  const step = (name, by) => { const select = $(name), count = select.options.length; select.selectedIndex = (select.selectedIndex + by + count) % count; select.dispatchEvent(new Event("change")); };
  const MANY = 24, MOST = 240;
  const matching = () => { const part = $("filter").value.trim().toLowerCase(); return images.flatMap((image, i) => (image.name.toLowerCase().includes(part) ? [i] : [])); };
  const offer = () => $("image").replaceChildren(...(matching().length ? matching() : images.map((_, i) => i)).map((i) => new Option(images[i].name, i)));
  const grid = () => {
    if (!$("all").open) return;
    const found = matching();
    $("grid").replaceChildren(...found.slice(0, MOST).map((i) => {
      const button = document.createElement("button"), picture = new Image();
      Object.assign(picture, { src: images[i].picture, alt: "", loading: "lazy", decoding: "async" });
      button.type = "button";
      button.append(picture, images[i].name);
      button.addEventListener("click", () => { state.image = i; home(); show(); stage.scrollIntoView({ block: "nearest" }); });
      return button;
    }));
    $("gridsaid").textContent = found.length > MOST ? `${MOST} of ${found.length}; filter by name to see others.` : found.length ? "" : "No name has this.";
  };
  offer();
  $("filterlabel").hidden = $("all").hidden = images.length <= MANY;
  $("filter").addEventListener("input", () => {
    offer();
    grid();
    if (matching().length && !matching().includes(state.image)) { state.image = matching()[0]; home(); show(); } else $("image").value = state.image;
  });
  $("all").addEventListener("toggle", grid);
  $("image").addEventListener("change", () => { state.image = +$("image").value; home(); show(); });
  for (const name of ["method", "target", "network"]) $(name).addEventListener("change", () => { state[name] = $(name).value; show(); });
  $("previous").addEventListener("click", () => step("image", -1));
  $("next").addEventListener("click", () => step("image", 1));
  $("strength").addEventListener("input", () => { if (!shown) return; shown.overlay = null; draw(); });
  for (const name of ["cut", "hull", "gadhull"]) $(name).addEventListener("input", draw);
  const home = () => { [state.zoom, state.x, state.y] = [1, 0, 0]; };
  const zoom = (by, u = 0.5, v = 0.5) => {
    if (!shown) return;
    const { width, height } = shown.image, next = Math.min(Math.max(state.zoom * by, 1), 16);
    const keep = (place, length, share) => Math.min(Math.max(place + share * length * (1 / state.zoom - 1 / next), 0), length * (1 - 1 / next));
    [state.x, state.y, state.zoom] = [keep(state.x, width, u), keep(state.y, height, v), next];
    draw();
  };
  $("in").addEventListener("click", () => zoom(1.5));
  $("out").addEventListener("click", () => zoom(1 / 1.5));
  $("fit").addEventListener("click", () => { home(); draw(); });
  const place = (event) => { const box = stage.getBoundingClientRect(); return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]; };
  let held = null;
  stage.addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY, state.x, state.y]; stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointerup", () => { held = null; });
  stage.addEventListener("pointermove", (event) => {
    if (!shown) return;
    const { width, height } = shown.image, box = stage.getBoundingClientRect(), [u, v] = place(event);
    if (held && state.zoom > 1) {
      state.x = Math.min(Math.max(held[2] - ((event.clientX - held[0]) / box.width) * (width / state.zoom), 0), width * (1 - 1 / state.zoom));
      state.y = Math.min(Math.max(held[3] - ((event.clientY - held[1]) / box.height) * (height / state.zoom), 0), height * (1 - 1 / state.zoom));
      draw();
    }
    const column = Math.floor(state.x + (u * width) / state.zoom), row = Math.floor(state.y + (v * height) / state.zoom);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const share = at(shown.map.values, shown.map, (column + 0.5) / width, (row + 0.5) / height);
    $("reading").textContent = `row ${row}, column ${column}: ${short(share * shown.map.scale)} (${Math.round(100 * share)} % of the largest magnitude, ${short(shown.map.scale)}; read at ${shown.map.width} x ${shown.map.height})`;
  });
  stage.addEventListener("wheel", (event) => { if (!event.ctrlKey) return; event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...place(event)); }, { passive: false });
  stage.addEventListener("dblclick", (event) => zoom(2, ...place(event)));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const keys = { ArrowLeft: () => step("image", -1), ArrowRight: () => step("image", 1), ArrowUp: () => step("method", -1), ArrowDown: () => step("method", 1), c: () => step("target", 1), n: () => step("network", 1),
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => { home(); draw(); }, h: () => { $("hull").checked = !$("hull").checked; draw(); } };
    // Arrows scroll the page, but where the gallery is in sight.
    const seen = stage.getBoundingClientRect();
    if (!keys[event.key] || seen.bottom < 0 || seen.top > innerHeight) return;
    event.preventDefault();
    keys[event.key]();
  });
  // As sharp as the screen, whatever the page's width.
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  stage.width = Math.round(640 * ratio);
  show();
})();
