// Passkeys: the server speaks base64url text, the browser wants bytes, and back.

export function fromBase64url(s: string): Uint8Array<ArrayBuffer> {
  const text = atob(s.replace(/-/g, '+').replace(/_/g, '/'))
  return Uint8Array.from(text, (c) => c.charCodeAt(0))
}

export function toBase64url(b: ArrayBuffer): string {
  return btoa(Array.from(new Uint8Array(b), (x) => String.fromCharCode(x)).join('')).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')
}

/** Passkeys need a secure page (https or localhost) and a browser that knows them. */
export function passkeysPossible(): boolean {
  return typeof window !== 'undefined' && window.isSecureContext && typeof PublicKeyCredential !== 'undefined' && !!navigator.credentials
}

const listed = (l?: PublicKeyCredentialDescriptorJSON[]): PublicKeyCredentialDescriptor[] | undefined =>
  l?.map((c) => ({ id: fromBase64url(c.id), type: 'public-key' as const, transports: c.transports as AuthenticatorTransport[] | undefined }))

/** Makes a passkey; answers what the server's finish call takes. Rejects with NotAllowedError when the person declines. */
export async function createPasskey(o: PublicKeyCredentialCreationOptionsJSON): Promise<unknown> {
  const publicKey = { ...o, challenge: fromBase64url(o.challenge), user: { ...o.user, id: fromBase64url(o.user.id) }, excludeCredentials: listed(o.excludeCredentials) } as PublicKeyCredentialCreationOptions
  const made = (await navigator.credentials.create({ publicKey })) as PublicKeyCredential
  const r = made.response as AuthenticatorAttestationResponse
  return { ...common(made), response: { clientDataJSON: toBase64url(r.clientDataJSON), attestationObject: toBase64url(r.attestationObject), transports: r.getTransports?.() ?? [] } }
}

/** Asks for a passkey; answers the assertion for the server. */
export async function usePasskey(o: PublicKeyCredentialRequestOptionsJSON): Promise<unknown> {
  const publicKey = { ...o, challenge: fromBase64url(o.challenge), allowCredentials: listed(o.allowCredentials) } as PublicKeyCredentialRequestOptions
  const got = (await navigator.credentials.get({ publicKey })) as PublicKeyCredential
  const r = got.response as AuthenticatorAssertionResponse
  return { ...common(got), response: { clientDataJSON: toBase64url(r.clientDataJSON), authenticatorData: toBase64url(r.authenticatorData), signature: toBase64url(r.signature), userHandle: r.userHandle ? toBase64url(r.userHandle) : undefined } }
}

function common(c: PublicKeyCredential) {
  return { id: c.id, rawId: toBase64url(c.rawId), type: c.type, authenticatorAttachment: c.authenticatorAttachment ?? undefined, clientExtensionResults: c.getClientExtensionResults() }
}
