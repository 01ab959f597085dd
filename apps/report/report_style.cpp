#include "apps/report/report_page.h"

namespace onpa::apps::report {

// Colours of the series are of the Okabe-Ito palette.
const char* const kStyle = R"css(
:root{color-scheme:light dark;--page:#fff;--text:#1c2126;--soft:#59636e;--rule:#d5dbe1;--band:#f2f5f8;
--warn:#fdf3e4;--warn-rule:#d98e00;--link:#005b8f;--passt:#0072b2;--dense:#d55e00;--other:#009e73;--ink:#1c2126}
@media screen and (prefers-color-scheme:dark){:root{--page:#15181b;--text:#e4e7ea;--soft:#9ba6b1;--rule:#333b43;
--band:#1e2327;--warn:#2c2415;--warn-rule:#e69f00;--link:#7cc4f0;--passt:#56b4e9;--dense:#e69f00;--other:#2fbf95;--ink:#f4f6f8}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:70rem;margin:0 auto;padding:0 1rem}
header{padding-top:2.2rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.015em;font-weight:680}
h2{font-size:1.28rem;line-height:1.3;margin:0 0 .6rem;padding-top:1.1rem;border-top:1px solid var(--rule);letter-spacing:-.005em}
h3{font-size:1rem;line-height:1.35;margin:0 0 .15rem}
section{margin-top:2.4rem}
p{margin:0 0 .8rem;max-width:44rem}
ul.plain{margin:0 0 .8rem;padding-left:1.1rem;max-width:44rem}
ul.plain li{margin:.2rem 0}
a{color:var(--link)}
.under,.note,figcaption,.files{color:var(--soft)}
.under{font-size:.88rem;margin-bottom:1.4rem}
.note,figcaption{font-size:.86rem;line-height:1.45}
.answer p{font-size:1.12rem;line-height:1.5;max-width:46rem;text-wrap:pretty}
.answer p:first-child{font-weight:600}
.caution{font-size:.9rem;color:var(--soft);max-width:46rem;margin-bottom:.4rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.4rem,1fr));gap:0;margin:1.4rem 0 0;border:1px solid var(--rule);border-radius:6px;overflow:hidden}
.figures div{padding:.7rem .9rem;box-shadow:1px 1px 0 0 var(--rule)}
.figures dt{font-size:.8rem;color:var(--soft)}
.figures dd{margin:0;font-size:1.5rem;line-height:1.25;font-weight:620;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.figures dd small{display:block;font-size:.78rem;line-height:1.4;font-weight:400;letter-spacing:0;color:var(--soft)}
.figures .passt{border-top:3px solid var(--passt)}.figures .dense{border-top:3px dashed var(--dense)}
.figures .none{border-top:3px solid transparent}
nav{font-size:.9rem;margin-top:1.4rem;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem}
.failed{background:var(--warn);border-left:4px solid var(--warn-rule);padding:.8rem 1rem;margin:0 0 1.6rem}
.failed h2{border:0;padding:0;font-size:1.05rem}.failed p{margin-bottom:.4rem}
h3.over-table{font-size:.94rem;margin:1.2rem 0 .3rem}
.wide{overflow-x:auto;margin:0 0 .2rem}
.wide:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:collapse;font-size:.88rem;line-height:1.35;font-variant-numeric:tabular-nums lining-nums}
th,td{padding:.3rem .6rem;vertical-align:top;text-align:left}
th{font-weight:500}
thead th{font-weight:600;font-size:.82rem;color:var(--soft);white-space:nowrap;vertical-align:bottom}
thead tr:last-child>*{border-bottom:1px solid var(--text)}
.groups th{color:var(--text);padding-bottom:0;text-align:left}
.groups th,.g{padding-left:1.3rem}
tbody th,tbody td{border-bottom:1px solid var(--rule)}
tbody th{position:sticky;left:0;background:var(--page);}
tbody th bdi{display:block;width:max-content;max-width:17rem;overflow-wrap:anywhere}
th:first-child,td:first-child{padding-left:0}
tbody th:first-child{padding-left:.3rem}thead tr:last-child th:first-child{padding-left:.3rem}
td{white-space:nowrap}td bdi{display:block;white-space:normal;overflow-wrap:anywhere;width:max-content;max-width:13rem}
.n{text-align:right}
td small{display:block;color:var(--soft);font-size:.8em}
.mark>*{background:var(--band);font-weight:650}.mark small{font-weight:400}
.sortable button{all:unset;cursor:pointer}.sortable button:focus-visible{outline:2px solid var(--link)}
.sortable button::after{content:"";display:inline-block;width:.9em;font-size:.75em;text-align:right}
[aria-sort=ascending] button::after{content:"▲"}[aria-sort=descending] button::after{content:"▼"}
.files{font-size:.8rem;margin:.3rem 0 1.4rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19.5rem),1fr));gap:1.6rem 1.4rem;margin:1rem 0}
.plots.pairs{grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr))}
figure{margin:0;max-width:29rem;min-width:0}
figcaption{margin-top:.2rem}
svg.plot{display:block;width:100%;height:auto;overflow:visible;font-size:11px;touch-action:pan-y}
svg text{fill:var(--text);font-variant-numeric:tabular-nums}
.tick{fill:var(--soft)!important}.axis-title{fill:var(--soft)!important;font-size:11px}.label{font-size:11.5px}.strong{font-weight:650}
.grid{stroke:var(--rule);stroke-width:.7}.axis{stroke:var(--text);stroke-width:1}
.diagonal{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3}
.band{fill:var(--band)}.hit{fill:transparent;pointer-events:all}
.passt{--c:var(--passt)}.dense{--c:var(--dense)}.third{--c:var(--other)}
.curve{fill:none;stroke:var(--c);stroke-width:1.6;stroke-linejoin:round}.curve.second{stroke-dasharray:5 3}
.dot{fill:var(--c);stroke:var(--page);stroke-width:.8}
.dot.marked{fill:var(--ink)}.over{paint-order:stroke;stroke:var(--page);stroke-width:3px;stroke-linejoin:round}
.bar{fill:var(--c);fill-opacity:.85}.bar.second{fill-opacity:.22;stroke:var(--c);stroke-width:1}
.bar.before{fill:var(--soft);fill-opacity:.16;stroke:var(--soft);stroke-width:.8}
.whisker{stroke:var(--ink);stroke-width:1}
.heat{fill:var(--c)}.h1{fill-opacity:.13}.h2{fill-opacity:.23}.h3{fill-opacity:.33}.h4{fill-opacity:.44}.h5{fill-opacity:.55}
.h6{fill-opacity:.66}.h7{fill-opacity:.78}.h8{fill-opacity:.89}.h9{fill-opacity:1}
.mean{fill:none;stroke:var(--ink);stroke-width:1.8}.mean.under{stroke:var(--page);stroke-width:4.2}
.legend{font-size:.84rem;margin:.4rem 0 0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem}
.legend .key{width:26px;height:12px;vertical-align:-1px}
details{border-top:1px solid var(--rule);padding:.5rem 0}
section>details+h3{margin-top:1rem}summary{cursor:pointer;font-weight:560}
pre{background:var(--band);padding:.8rem .9rem;border-radius:4px;overflow-x:auto;font:.8rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:.5rem 0 .9rem}
pre.wrap{white-space:pre-wrap;overflow-wrap:anywhere}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;font-size:.88rem;margin:.4rem 0 1rem}
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:.82rem;padding-top:2rem;padding-bottom:2.5rem}
.tip{position:fixed;z-index:9;max-width:17rem;background:var(--text);color:var(--page);font-size:.8rem;line-height:1.4;padding:.35rem .55rem;border-radius:4px;pointer-events:none;white-space:pre-line;font-variant-numeric:tabular-nums}
@media(min-width:60rem){.sortable td small{display:inline;margin-left:.45em}}
@media(max-width:30rem){tbody th bdi{max-width:7.6rem}h1{font-size:1.55rem}th,td{padding-left:.4rem;padding-right:.4rem}.groups th,.g{padding-left:.9rem}.answer p{font-size:1.04rem}dl.facts{grid-template-columns:1fr}dl.facts dd{margin-bottom:.35rem}}
@media print{@page{margin:14mm}body{font-size:9.5pt}main,header,footer{max-width:none;padding:0}nav,.files{display:none}
.wide{overflow:visible}table{font-size:7.6pt}th,td{padding:.18rem .3rem}tbody th{position:static}tr,figure,.figures,.failed{break-inside:avoid}
h2,h3{break-after:avoid}section{margin-top:1.4rem}thead{display:table-header-group}.plots,.plots.pairs{grid-template-columns:1fr 1fr}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}a{color:inherit;text-decoration:none}pre{white-space:pre-wrap;overflow-wrap:anywhere}}
)css";

const char* const kScript = R"js(
(function () {
  'use strict';
  var tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  document.body.appendChild(tip);
  document.querySelectorAll('svg.plot title').forEach(function (title) {
    title.parentNode.setAttribute('data-tip', title.textContent);
    title.remove();
  });
  function show(event) {
    var mark = event.target.closest ? event.target.closest('[data-tip]') : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute('data-tip');
    var left = event.clientX + 14, top = event.clientY + 16;
    left = Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 6);
    if (top + tip.offsetHeight > window.innerHeight) top = event.clientY - tip.offsetHeight - 12;
    tip.style.left = Math.max(6, left) + 'px';
    tip.style.top = Math.max(6, top) + 'px';
  }
  document.addEventListener('pointermove', show);
  document.addEventListener('pointerdown', show);
  window.addEventListener('scroll', function () { tip.hidden = true; }, { passive: true });

  function value(row, column) {
    var cell = row.cells[column], text = cell.getAttribute('data-v');
    if (text === null) return cell.textContent;
    return text === '' ? NaN : Number(text);
  }
  document.querySelectorAll('table.sortable').forEach(function (table) {
    var heads = table.tHead.rows[table.tHead.rows.length - 1].cells;
    Array.prototype.forEach.call(heads, function (head, column) {
      head.querySelector('button').addEventListener('click', function () {
        var sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
        Array.prototype.forEach.call(heads, function (h) { h.removeAttribute('aria-sort'); });
        head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
        var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows);
        rows.sort(function (a, b) {
          var x = value(a, column), y = value(b, column);
          if (typeof x === 'string') return sign * x.localeCompare(y);
          if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
          return sign * (x - y);
        });
        rows.forEach(function (row) { body.appendChild(row); });
      });
    });
  });
})();
)js";

}  // namespace onpa::apps::report
