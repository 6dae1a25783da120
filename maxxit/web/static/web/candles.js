/* Candle charts in the colours of the page, which follow the colour scheme while the page is open. */
"use strict";
const Candles = (() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const frame = () => ({
    layout: { background: { color: colour("--paper") }, textColor: colour("--soft"), attributionLogo: false },
    grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
    timeScale: { borderColor: colour("--line") }, rightPriceScale: { borderColor: colour("--line") },
  });
  const bars = () => {
    const up = colour("--up"), down = colour("--down");
    return { upColor: up, wickUpColor: up, downColor: down, wickDownColor: down, borderVisible: false };
  };

  /* Makes a chart with one series; `repaint` is called after the colours have changed. */
  function create(place, { rightOffset, options = {}, repaint }) {
    const chart = LightweightCharts.createChart(place, {
      ...frame(), autoSize: true,
      localization: { timeFormatter: (time) => new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" },
    });
    chart.timeScale().applyOptions({ timeVisible: true, secondsVisible: false, rightOffset });
    const series = chart.addSeries(LightweightCharts.CandlestickSeries, { ...bars(), ...options });
    const paint = () => { chart.applyOptions(frame()); series.applyOptions(bars()); };
    const anew = () => { paint(); repaint(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", anew);
    new MutationObserver(anew).observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });  // the admin's switch
    return { chart, series };
  }

  return { colour, create };
})();
