const cards = [...document.querySelectorAll('.card')], sheet = document.querySelector('.blind');
for (const card of cards) {
  card.querySelector('i').textContent = card.dataset.kind;
  card.addEventListener('click', () =>
    card.setAttribute('aria-pressed', String(card.getAttribute('aria-pressed') !== 'true')));
}
document.getElementById('reveal').addEventListener('click', () => {
  sheet.classList.add('revealed');
  const right = cards.filter(c => (c.getAttribute('aria-pressed') === 'true') === (c.dataset.kind === 'generated')).length;
  document.getElementById('score').textContent = `${right} of ${cards.length} right`;
});
