import vue from 'eslint-plugin-vue'
import a11y from 'eslint-plugin-vuejs-accessibility'
import ts from 'typescript-eslint'

const border = (files, patterns) => ({ files, rules: { 'no-restricted-imports': ['error', { patterns }] } })

export default ts.config(
  { ignores: ['dist', 'node_modules', 'tests/shots', 'auto-imports.d.ts', 'components.d.ts', 'src/api/schema.d.ts'] },
  ...ts.configs.recommended,
  ...vue.configs['flat/essential'],
  ...a11y.configs['flat/recommended'],
  {
    files: ['**/*.vue'],
    languageOptions: { parserOptions: { parser: ts.parser } },
    rules: {
      'vue/multi-word-component-names': 'off',
      'vue/no-static-inline-styles': 'error',
      'vue/no-v-html': 'error',
      'vue/block-lang': ['error', { script: { lang: 'ts' } }],
      'vue/component-api-style': ['error', ['script-setup']],
      'vue/no-unused-properties': 'off',
      'max-lines': ['error', { max: 300 }],
      'vuejs-accessibility/label-has-for': ['error', { required: { some: ['nesting', 'id'] } }],
      'vuejs-accessibility/form-control-has-label': 'off',
      'vuejs-accessibility/no-autofocus': 'off',
    },
  },
  {
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'no-eval': 'error',
      eqeqeq: ['error', 'always'],
    },
  },
  { files: ['src/ui/Markdown.vue', 'src/ui/CodeSnippet.vue'], rules: { 'vue/no-v-html': 'off' } },
  border(['src/ui/**/*.vue', 'src/ui/**/!(*.test).ts'], [{ group: ['@/api/*', '@/areas/*', '@/shell/*', 'vue-router'], message: 'ui knows no API, no router and no area' }]),
  ...['home', 'user', 'tenant', 'billing', 'model', 'inference', 'ops'].map((area) =>
    border([`src/areas/${area}/**`], [{ regex: `@/areas/(?!${area}/)`, message: 'an area imports no other area' }])),
)
