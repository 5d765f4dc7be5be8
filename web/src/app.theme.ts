// Overrides of Nuxt UI's themes: the sizes of the instrument panel. Colours are variables of main.css.
export const theme = {
  icons: { loading: 'i-lucide-loader-circle' },
  button: { compoundVariants: [{ color: 'primary' as const, variant: 'solid' as const, class: 'hover:bg-primary/90 active:bg-primary/90' }, { color: 'error' as const, variant: 'solid' as const, class: 'hover:bg-error/90 active:bg-error/90' }, { size: 'md' as const, square: true, class: 'p-2 max-sm:min-w-11 justify-center' }, { size: 'xs' as const, square: true, class: 'max-sm:min-w-11 max-sm:min-h-11 justify-center' }, { size: 'sm' as const, square: true, class: 'max-sm:min-w-11 justify-center' }], slots: { base: 'cursor-pointer max-sm:min-h-11 transition-colors duration-150' }, variants: { size: { xs: { leadingIcon: 'size-4', base: 'max-sm:min-h-9' }, sm: { leadingIcon: 'size-4' }, md: { leadingIcon: 'size-4', trailingIcon: 'size-4' } } } },
  input: { variants: { size: { md: { leadingIcon: 'size-4', trailingIcon: 'size-4' } } }, slots: { base: 'max-sm:min-h-11 max-sm:text-base', root: 'w-full' } },
  textarea: { slots: { root: 'w-full', base: 'max-sm:text-base' } },
  select: { variants: { size: { md: { trailingIcon: 'size-4' }, sm: { trailingIcon: 'size-4' } } }, defaultVariants: { position: 'popper' }, slots: { base: 'max-sm:min-h-11 w-full' } },
  selectMenu: { variants: { size: { md: { trailingIcon: 'size-4' } } }, slots: { base: 'max-sm:min-h-11 w-full' } },
  formField: { slots: { label: 'text-sm font-medium text-default', help: 'mt-1 text-xs text-muted', error: 'mt-1 text-xs', hint: 'text-xs text-dimmed' } },
  badge: { defaultVariants: { variant: 'subtle', size: 'sm', color: 'neutral' } },
  modal: { slots: { content: 'sm:max-w-[560px]', title: 'text-base font-semibold', description: 'mt-1 text-sm text-muted', footer: 'justify-end gap-2' } },
  tooltip: { slots: { content: 'text-xs' } },
  slideover: { slots: { content: 'max-w-md' } },
}
