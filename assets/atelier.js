// The page's keys, and the draft of the prompt, which a reload keeps. No library, no build step.
{
  const promptArea = () => document.querySelector('#prompt textarea');
  const keep = () => {
    try { if (window.atelier.restored) localStorage.setItem('atelier-prompt', promptArea()?.value ?? ''); } catch { /* no storage */ }
  };

  window.atelier = {
    restored: false,
    draft() {
      this.restored = true;
      const typed = promptArea()?.value;
      if (typed) return typed;
      try { return localStorage.getItem('atelier-prompt') ?? ''; } catch { return ''; }
    },
  };

  document.addEventListener('input', (event) => { if (event.target === promptArea()) keep(); });
  addEventListener('pagehide', keep);

  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      document.querySelector('#paint')?.click();
    }
  });
}
