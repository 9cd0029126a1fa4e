"""Style and script of the realism page."""

CSS = """
:root{color-scheme:light;--ink:#1b1d21;--pale:#666a72;--line:#e2e3e6;--paper:#fcfcfb}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink)}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:48px 24px 96px}
h1{font-size:40px;line-height:1.1;margin:0 0 12px;font-weight:650;letter-spacing:-.02em}
h2{font-size:24px;margin:72px 0 8px;font-weight:620;letter-spacing:-.01em}
h3{font-size:17px;margin:40px 0 4px;font-weight:620}
p,ul{max-width:720px;margin:8px 0 16px}section>p,h3+p,small,.over{color:var(--pale)}
.over{margin:0 0 4px;font-size:14px}small{font-size:13px;line-height:1.4}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:24px;margin-top:40px}
.tiles div{display:flex;flex-direction:column;gap:6px;border-top:2px solid var(--ink);padding-top:12px}
.tiles b{font-size:32px;line-height:1.1;font-weight:620;font-variant-numeric:tabular-nums}
.sheet{display:grid;grid-template-columns:repeat(var(--columns),1fr);gap:6px;margin-top:16px}
.sheet span{font-size:13px;color:var(--pale);align-self:end}
img{display:block;width:100%;height:auto}.pixels{image-rendering:pixelated}
.blind{display:grid;grid-template-columns:repeat(auto-fill,minmax(120px,1fr));gap:10px;margin:16px 0}
button{font:inherit;cursor:pointer}
.card{position:relative;padding:0;border:0;background:none;outline:3px solid transparent;outline-offset:1px}
.card:focus-visible{outline-color:#9aa0a8}.card[aria-pressed=true]{outline-color:var(--ink)}
.card i{position:absolute;left:0;bottom:0;padding:1px 8px;font:600 13px/1.5 system-ui,sans-serif;color:#fff}
.card i{display:none}
.revealed .card i{display:block}.card[data-kind=real] i{background:#5d6066}.card[data-kind=made] i{background:#1d5fa8}
#reveal{padding:8px 20px;border:1px solid var(--ink);border-radius:6px;background:var(--ink);color:#fff}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:28px 32px;margin-top:16px}
.wide{grid-template-columns:3fr 2fr}.wide svg text{font-size:8px}
@media(max-width:720px){.wide{grid-template-columns:1fr}}
figure{margin:0}figcaption{font-size:15px;margin-bottom:4px}svg{width:100%;height:auto}
svg text{font-size:11px;fill:#666a72}
.legend{display:flex;flex-wrap:wrap;gap:20px;font-size:14px}.key{display:flex;align-items:center;gap:8px}
.key i{width:18px;height:4px;border-radius:2px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14.5px;font-variant-numeric:tabular-nums}
td,th{padding:7px 12px 7px 0;border-bottom:1px solid var(--line);text-align:right;font-weight:400;white-space:nowrap}
tbody th{text-align:left;white-space:normal;min-width:260px}thead th{color:var(--pale);font-size:13px}
td.ours,td.ours_like{font-weight:640;color:#1d5fa8}td small{font-weight:400}.none{color:var(--pale)}
pre{overflow-x:auto;background:#f1f1ef;padding:12px 16px;border-radius:6px;font-size:13px}
@media print{h2{margin-top:32px}figure,.tiles div,tr{break-inside:avoid}}
"""

SCRIPT = """
const cards = [...document.querySelectorAll('.card')], sheet = document.querySelector('.blind');
for (const card of cards) {
  card.querySelector('i').textContent = card.dataset.kind;
  card.addEventListener('click', () =>
    card.setAttribute('aria-pressed', String(card.getAttribute('aria-pressed') !== 'true')));
}
document.getElementById('reveal').addEventListener('click', () => {
  sheet.classList.add('revealed');
  const right = cards.filter(c => (c.getAttribute('aria-pressed') === 'true') === (c.dataset.kind === 'made')).length;
  document.getElementById('score').textContent = `${right} of ${cards.length} right`;
});
"""
