//! Request heads from their bytes to what is done about them: sections A, B and L of the checklist.

mod answers;
mod any;
mod decide;
mod deflate;
mod parse;
mod scan;
mod support;
