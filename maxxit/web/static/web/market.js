/* The candle chart of /market: bars and trades from the API, the tables anew every few seconds. */
"use strict";
(() => {
  const form = document.getElementById("choices");
  const place = document.getElementById("chart");
  const said = document.getElementById("said");
  const tables = document.getElementById("tables");
  const PAGE = 300, EVERY = 5000;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const chart = LightweightCharts.createChart(place, {
    autoSize: true,
    layout: {
      background: { color: colour("--paper") }, textColor: colour("--soft"), attributionLogo: false,
    },
    grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
    timeScale: { timeVisible: true, secondsVisible: false, rightOffset: 6, borderColor: colour("--line") },
    rightPriceScale: { borderColor: colour("--line") },
    localization: { timeFormatter: (time) => new Date(time * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" },
  });
  const up = colour("--up"), down = colour("--down");
  const series = chart.addSeries(LightweightCharts.CandlestickSeries, {
    upColor: up, wickUpColor: up, downColor: down, wickDownColor: down, borderVisible: false,
  });
  const marks = LightweightCharts.createSeriesMarkers(series, []);

  let bars = [], older = null, turn = 0, loading = false;

  async function ask(path, values) {
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

  async function trades(mine) {
    const { symbol, interval, agent } = chosen();
    const since = bars.length ? new Date(bars[0].time * 1000).toISOString() : new Date(0).toISOString();
    const items = [];
    let count = 1;
    while (items.length < count && items.length < 2000) {
      const page = await ask("trades", { symbol, interval, agent, since, limit: 500, offset: items.length });
      items.push(...page.items);
      count = page.items.length ? page.count : 0;
    }
    if (mine !== turn) return;
    const known = new Set(bars.map((bar) => bar.time));
    marks.setMarkers(items.filter((one) => known.has(one.bar)).map((one) => {
      const buys = (one.what === "ENTRY") === (one.side === "LONG");
      const entry = one.what === "ENTRY";
      const won = one.realised_pnl !== null && +one.realised_pnl >= 0;
      return {
        time: one.bar, position: buys ? "belowBar" : "aboveBar", shape: entry ? (buys ? "arrowUp" : "arrowDown") : "circle",
        color: entry ? colour("--link") : won ? up : down,
        text: entry ? `${one.side} ${+one.price}` : `${one.reason} ${+one.realised_pnl >= 0 ? "+" : ""}${(+one.realised_pnl).toFixed(2)}`,
      };
    }));
    place.dataset.markers = String(items.length);
    said.textContent = `${symbol}, bars of ${interval}, ${bars.length} shown, ${count} entries and exits. Bars and times are UTC.`;
  }

  async function show() {
    const mine = ++turn, { symbol, interval } = chosen();
    try {
      const page = await ask("candles", { symbol, interval, limit: PAGE });
      if (mine !== turn) return;
      bars = page.items.map(candle);
      older = page.next_before;
      if (bars.length) steps(bars[bars.length - 1].close);
      series.setData(bars);
      chart.timeScale().setVisibleLogicalRange({ from: Math.max(0, bars.length - 120), to: bars.length + 6 });
      place.dataset.bars = String(bars.length);
      if (!bars.length) said.textContent = `No bars of ${symbol} yet.`;
      await trades(mine);
    } catch (error) {
      said.textContent = `The chart could not be loaded: ${error.message}`;
    }
  }

  async function more() {
    if (loading || !older) return;
    loading = true;
    const mine = turn, { symbol, interval } = chosen();
    try {
      const page = await ask("candles", { symbol, interval, limit: PAGE, before: older });
      if (mine !== turn) return;
      bars = page.items.map(candle).concat(bars);
      older = page.next_before;
      series.setData(bars);
      place.dataset.bars = String(bars.length);
      await trades(mine);
    } catch (error) {
      said.textContent = `Older bars could not be loaded: ${error.message}`;
    } finally {
      loading = false;
    }
  }

  async function renew() {
    if (document.hidden) return;
    try {
      const mine = turn, { symbol, interval } = chosen();
      const page = await ask("candles", { symbol, interval, limit: 3 });
      if (mine === turn) {
        for (const bar of page.items.map(candle)) {
          const last = bars[bars.length - 1];
          if (last && bar.time < last.time) continue;
          series.update(bar);
          if (last && bar.time === last.time) bars[bars.length - 1] = bar; else bars.push(bar);
        }
        await trades(mine);
      }
      const answer = await fetch("/market/tables", { credentials: "same-origin", redirect: "error" });
      if (answer.ok) tables.innerHTML = await answer.text();
    } catch (error) {
      said.textContent = `Not renewed: ${error.message}`;
    }
  }

  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => { if (range && range.from < -5) more(); });
  form.addEventListener("change", () => {
    history.replaceState(null, "", "?" + new URLSearchParams(new FormData(form)));
    show();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  show();
  setInterval(renew, EVERY);
})();
