"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const draw = () => {
    const grid = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    for (const [id, figure] of Object.entries(figures)) {
      const layout = {
        ...figure.layout,
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 13 },
        margin: { l: 56, r: 16, t: 12, b: 52 },
        legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
        hoverlabel: { align: "left" },
        xaxis: { ...grid, ...figure.layout.xaxis },
        yaxis: { ...grid, ...figure.layout.yaxis },
      };
      const data = figure.data.map((trace) =>
        trace.type === "heatmap"
          ? { ...trace, colorscale: [[0, colour("--shade-0")], [1, colour("--shade-1")]] }
          : trace,
      );
      Plotly.react(id, data, layout, { displaylogo: false, responsive: true, displayModeBar: false });
    }
  };
  draw();
  dark.addEventListener("change", draw);
})();
