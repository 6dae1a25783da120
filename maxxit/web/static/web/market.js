/* The candle chart of /market: candles and trades from the API; the tables are refreshed every few seconds. */
"use strict";
(() => {
  const form = document.getElementById("choices");
  const place = document.getElementById("chart");
  const status = document.getElementById("status");
  const tables = document.getElementById("tables");
  const PAGE = 300, REFRESH_MS = 5000;
  const { colour } = Candles;
  const { chart, series } = Candles.create(place, { rightOffset: 6, repaint: () => mark() });
  const marks = LightweightCharts.createSeriesMarkers(series, []);

  let bars = [], markers = [], older = null, request = 0, loading = false;

  async function get(path, values) {
    const wanted = Object.entries(values).filter(([, value]) => value !== null && value !== "");
    const answer = await fetch(`/api/market/${path}?` + new URLSearchParams(wanted), { credentials: "same-origin" });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message || `${path}: ${answer.status}`);
    return answer.json();
  }

  const chosen = () => Object.fromEntries(new FormData(form));

  function candle(row) {
    return { time: row.time, open: +row.open, high: +row.high, low: +row.low, close: +row.close };
  }

  function steps(price) {
    const digits = price >= 100 ? 2 : price >= 1 ? 4 : 6;
    series.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  }

  async function trades(own) {
    const { symbol, interval, agent } = chosen();
    if (!bars.length) {
      markers = [];
      mark();
      status.textContent = `No candles of ${symbol} yet.`;
      return;
    }
    const since = new Date(bars[0].time * 1000).toISOString();
    const items = [];
    let count = 1;
    while (items.length < count && items.length < 2000) {
      const page = await get("trades", { symbol, interval, agent, since, limit: 500, offset: items.length });
      items.push(...page.items);
      count = page.items.length ? page.count : 0;
    }
    if (own !== request) return;
    const known = new Set(bars.map((bar) => bar.time));
    markers = items.filter((marker) => known.has(marker.bar));
    mark();
    place.dataset.markers = String(items.length);
    status.textContent = `${symbol}, candles of ${interval}, ${bars.length} shown, ${count} entries and exits. The chart is in UTC.`;
  }

  function mark() {
    marks.setMarkers(markers.map((marker) => {
      const buys = (marker.what === "ENTRY") === (marker.side === "LONG");
      const entry = marker.what === "ENTRY";
      const won = marker.net !== null && +marker.net >= 0;
      return {
        time: marker.bar, position: buys ? "belowBar" : "aboveBar", shape: entry ? (buys ? "arrowUp" : "arrowDown") : "circle",
        color: colour(entry ? "--link" : won ? "--up" : "--down"),
        text: entry ? `${marker.side} ${+marker.price}` : `${marker.reason} ${+marker.net >= 0 ? "+" : ""}${(+marker.net).toFixed(2)}`,
      };
    }));
  }

  async function show() {
    const own = ++request, { symbol, interval } = chosen();
    try {
      const page = await get("candles", { symbol, interval, limit: PAGE });
      if (own !== request) return;
      bars = page.items.map(candle);
      older = page.next_before;
      if (bars.length) steps(bars[bars.length - 1].close);
      series.setData(bars);
      chart.timeScale().setVisibleLogicalRange({ from: Math.max(0, bars.length - 120), to: bars.length + 6 });
      place.dataset.bars = String(bars.length);
      await trades(own);
    } catch (error) {
      status.textContent = `The chart could not be loaded: ${error.message}`;
    }
  }

  async function more() {
    if (loading || !older) return;
    loading = true;
    const own = request, { symbol, interval } = chosen();
    try {
      const page = await get("candles", { symbol, interval, limit: PAGE, before: older });
      if (own !== request) return;
      bars = page.items.map(candle).concat(bars);
      older = page.next_before;
      series.setData(bars);
      place.dataset.bars = String(bars.length);
      await trades(own);
    } catch (error) {
      status.textContent = `Older candles could not be loaded: ${error.message}`;
    } finally {
      loading = false;
    }
  }

  async function refresh() {
    if (document.hidden) return;
    try {
      const own = request, { symbol, interval } = chosen();
      const page = await get("candles", { symbol, interval, limit: 3 });
      if (own === request) {
        for (const bar of page.items.map(candle)) {
          const last = bars[bars.length - 1];
          if (last && bar.time < last.time) continue;
          series.update(bar);
          if (last && bar.time === last.time) bars[bars.length - 1] = bar; else bars.push(bar);
        }
        await trades(own);
      }
      const answer = await fetch("/market/tables", { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) return;
      const html = await answer.text();
      await window.maxxitReleased();
      tables.innerHTML = html;
    } catch (error) {
      status.textContent = `Not refreshed: ${error.message}`;
    }
  }

  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => { if (range && range.from < -5) more(); });
  form.addEventListener("change", () => {
    history.replaceState(null, "", "?" + new URLSearchParams(new FormData(form)));
    show();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  show();
  setInterval(refresh, REFRESH_MS);
})();
