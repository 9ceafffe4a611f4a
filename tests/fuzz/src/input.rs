//! An input as the fuzzers take it apart: numbers and pieces from its front. Where it ends, numbers are 0 and pieces empty.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let piece = self.piece(N);
        array[..piece.len()].copy_from_slice(piece);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn number(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// Takes at most so many bytes.
    pub(crate) fn piece(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// Takes a piece that says how long it is.
    pub(crate) fn counted(&mut self) -> &'a [u8] {
        let length = self.number();
        self.piece(length.into())
    }

    /// Takes what is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.piece(usize::MAX)
    }
}

/// Holds a message for operators to what all promise: one line, and not much longer than a screen has.
pub(crate) fn check_message(message: &str, longest: usize) {
    assert!(message.len() <= longest, "{} bytes: {message:.300}", message.len());
    assert!(!message.contains(char::is_control), "a control character in {message:?}");
}
