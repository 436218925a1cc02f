// Draws the plots in the page's own colors, again when light turns dark; makes their points reachable by keyboard;
// filters the table of rows. The plots use the expression interpreter: the page's policy allows no eval.
document.addEventListener("DOMContentLoaded", () => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue("--" + name).trim();
    const axis = { domainColor: color("rule"), tickColor: color("rule"), gridColor: color("rule"), labelColor: color("muted"),
      titleColor: color("muted"), titleFontWeight: 500, labelFontSize: 12, titleFontSize: 12, titlePadding: 8, labelPadding: 5,
      labelOverlap: true, labelSeparation: 8 };
    return {
      background: "transparent", font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null }, axis, axisX: { grid: false }, axisY: { domain: false, ticks: false, tickCount: 5 },
      legend: { labelColor: color("ink"), labelFontSize: 12, symbolSize: 80, padding: 0, offset: 10, labelLimit: 200 },
      text: { color: color("ink"), fontSize: 12 },
      range: { category: ["c1", "c2", "c3", "c4", "c5", "c6"].map(color) },
      front: color("muted"),
    };
  };

  const reachable = (element) => {
    const readout = element.parentElement.querySelector(".readout");
    for (const point of element.querySelectorAll('path[role="graphics-symbol"]')) {
      const text = point.getAttribute("aria-label");
      if (!text) continue;
      point.setAttribute("tabindex", "0");
      const tell = () => { readout.textContent = text; };
      point.addEventListener("focus", tell);
      point.addEventListener("mouseenter", tell);
    }
  };

  const draw = async () => {
    const { front, ...theme } = config();
    for (const [name, spec] of Object.entries(specs)) {
      const element = document.getElementById(name);
      const own = structuredClone(spec);
      for (const param of own.params || []) if (param.name === "front") param.value = front;
      own.config = { ...theme, legend: { ...theme.legend, columns: element.clientWidth < 420 ? 2 : 3,
        columnPadding: element.clientWidth < 420 ? 6 : 16 } };
      own.autosize = { type: "fit-x", contains: "padding", resize: true };
      try {
        await window.vegaEmbed(element, own, { renderer: "svg", actions: false, ast: true, mode: "vega-lite" });
        reachable(element);
      } catch (error) {
        element.textContent = "This plot could not be drawn; its figures are in the tables.";
        console.error(error);
      }
    }
    document.documentElement.dataset.drawn = "yes";
  };

  draw();
  dark.addEventListener("change", draw);

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("#all tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);
    const count = document.getElementById("count");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    });
  }
});
