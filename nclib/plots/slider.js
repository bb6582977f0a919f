// Brings every slider on the page to life that is not yet: it draws the epoch that its range input names. Nothing is
// fetched, and nothing moves before it is asked to.
(() => {
  const SIZE = 340; // of both drawings, as their viewBox says
  const OUTLINES = [
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "M-.9-.9h1.8v1.8h-1.8z",
    "M0-1.15L1.1.85H-1.1z",
    "M0-1.25L1.25 0L0 1.25L-1.25 0z",
  ]; // circle, square, triangle and diamond: the four classes in their order
  const plain = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const text = (kind, x, y, content) => `<text class="${kind}" x="${x}" y="${y}">${plain(content)}</text>`;
  const line = (kind, [x1, y1], [x2, y2]) =>
    `<line class="${kind}" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
  const mark = (kind, k, [x, y], radius) =>
    `<path class="${kind}" d="${OUTLINES[k]}" transform="translate(${x} ${y}) scale(${radius})"/>`;
  const ofClass = (k, drawn) => `<g data-class="${k}">${drawn}</g>`;

  function start(root) {
    const find = (selector) => root.querySelector(selector);
    const data = JSON.parse(find('script[type="application/json"]').textContent);
    const [space, heat, range, play, status] = [".space", ".gram", "input", ".play", ".status"].map(find);
    const view = { ...data.view };
    const K = data.names.length;
    const last = data.epochs.length - 1;

    // Orthographic, seen from (elev, azim) degrees as matplotlib does it: x and y on the page, and nearness.
    function project([x, y, z]) {
      const [e, a] = [view.elev, view.azim].map((degrees) => (degrees * Math.PI) / 180);
      const forward = x * Math.cos(a) + y * Math.sin(a);
      const unit = (0.44 * SIZE) / data.extent;
      return [
        SIZE / 2 + unit * (y * Math.cos(a) - x * Math.sin(a)),
        0.54 * SIZE - unit * (z * Math.cos(e) - forward * Math.sin(e)),
        z * Math.sin(e) + forward * Math.cos(e),
      ];
    }

    function drawSpace(at) {
      const centre = project([0, 0, 0]);
      const [corners, means, weights, features] = [
        data.corners, data.means[at], data.weights[at], data.features[at],
      ].map((points) => points.map(project));
      const edges = (kind, points) =>
        points.flatMap((p, i) => points.slice(0, i).map((q) => line(kind, p, q))).join("");
      const labels = corners.map(([x, y], k) =>
        text("", x, y + (y < SIZE / 2 ? -18 : 24), data.names[data.classes[k]]));
      const marks = [
        ...corners.map((p) => [p, mark("ideal", 0, p, 4)]),
        ...features.map((p, i) => [p, ofClass(data.labels[i], mark("feature", data.labels[i], p, 3))]),
        ...weights.map((p, k) => [p, ofClass(k, line("classifier", centre, p) + mark("classifier", k, p, 9))]),
        ...means.map((p, k) => [p, ofClass(k, mark("mean", k, p, 6))]),
      ].sort(([p], [q]) => p[2] - q[2]); // the near ones last, on top
      space.innerHTML = [
        edges("ideal", corners), edges("", means), ...labels, ...marks.map(([, drawn]) => drawn),
      ].join("");
    }

    // The squares, their names and the colour bar stay; an epoch changes colours and tooltips.
    function prepareGram() {
      const [left, top, bar] = [100, 20, 276];
      const side = (SIZE - left) / K;
      const along = (cosine) => left + ((cosine + 1) / 2) * (SIZE - left);
      const rect = (kind, x, y, width, height, inside) =>
        `<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${height}" ${inside}</rect>`;
      const rows = data.names.map((name, i) => {
        const kind = data.classes.includes(i) ? "shown" : "";
        const middle = (i + 0.5) * side;
        return text(`row ${kind}`, left - 6, top + middle + 4, `${name} ${i}`)
          + text(kind, left + middle, top - 6, `${i}`)
          + data.names.map((_, j) =>
            rect("cosine", left + j * side, top + i * side, side, side, "><title></title>")).join("");
      });
      const step = (SIZE - left) / data.palette.length;
      const colours = data.palette.map((colour, i) =>
        rect("", left + i * step, bar, step + 0.5, 10, `fill="${colour}">`));
      const simplex = along(-1 / (K - 1));
      heat.innerHTML = [
        ...rows, ...colours, line("tick", [simplex, bar - 4], [simplex, bar + 14]),
        text("", left + 8, bar + 26, "−1"), text("", SIZE - 6, bar + 26, "1"),
        text("", simplex, bar + 26, `simplex −1/${K - 1}`), text("row", left - 6, bar + 9, "cosine"),
      ].join("");
    }

    function drawGram(at) {
      heat.querySelectorAll(".cosine").forEach((square, place) => {
        const [i, j] = [Math.floor(place / K), place % K];
        const cosine = data.grams[at][i][j];
        square.setAttribute("fill", data.palette[Math.round(((cosine + 1) / 2) * (data.palette.length - 1))]);
        square.firstChild.textContent = `${data.names[i]}, ${data.names[j]}: ${cosine.toFixed(2)}`;
      });
    }

    function show() {
      const at = Number(range.value);
      drawSpace(at);
      drawGram(at);
      status.textContent = data.status[at];
      range.setAttribute("aria-valuetext", `epoch ${data.epochs[at]}`);
    }

    let timer = null;
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      status.ariaLive = "polite"; // off while it plays, or every epoch would be read aloud
    }

    function turn(across, up) {
      view.azim -= across;
      view.elev = Math.max(-90, Math.min(90, view.elev + up));
      drawSpace(Number(range.value));
    }

    play.addEventListener("click", () => {
      if (timer) return stop();
      if (Number(range.value) === last) range.value = 0;
      show();
      play.textContent = "Pause";
      status.ariaLive = "off";
      timer = setInterval(() => {
        range.value = Number(range.value) + 1;
        show();
        if (Number(range.value) === last) stop();
      }, 400);
    });
    range.addEventListener("input", () => { stop(); show(); });
    root.querySelectorAll(".turn").forEach((button) =>
      button.addEventListener("click", () => turn(Number(button.dataset.across), Number(button.dataset.up))));
    space.addEventListener("pointerdown", (event) => space.setPointerCapture(event.pointerId));
    space.addEventListener("pointermove", (event) => {
      if (space.hasPointerCapture(event.pointerId)) turn(event.movementX / 2, event.movementY / 2);
    });
    space.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
      if (!by) return;
      event.preventDefault(); // the page would scroll
      turn(...by);
    });
    prepareGram();
    show();
    root.classList.add("live"); // last: whatever fails before leaves the still in place
  }

  document.querySelectorAll(".nc-slider:not(.live)").forEach(start);
})();
