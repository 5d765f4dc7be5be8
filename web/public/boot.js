// Runs before the first paint, so that a dark page never flashes white. A file and not inline: the policy allows no inline script.
(function () {
  var saved = {}
  try { saved = JSON.parse(localStorage.getItem('maas.preferences') || '{}') } catch { saved = {} }
  var theme = saved.theme || 'system'
  var dark = theme === 'dark' || (theme === 'system' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.classList.add(dark ? 'dark' : 'light')
  if (saved.density === 'compact') document.documentElement.classList.add('compact')
  var lang = saved.locale || ((navigator.language || 'en').toLowerCase().indexOf('zh') === 0 ? 'zh-CN' : 'en')
  document.documentElement.lang = lang
})()
