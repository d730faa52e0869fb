//! The tree that html5ever parses from a page, with the form owner of each control.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::{Attribute, ExpandedName, ParseOpts, QualName, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// The namespace of HTML elements.
pub(super) const HTML: &str = "http://www.w3.org/1999/xhtml";

/// A page's tree.
#[derive(Default)]
pub(super) struct Dom {
    tree: RcDom,
    /// The controls, each with the form that was open at its place.
    owners: RefCell<Vec<(Handle, Handle)>>,
}

impl Dom {
    /// Parses a page like a browser with scripts, or like one without.
    pub(super) fn parse(page: &str, scripts: bool) -> Self {
        let mut options = ParseOpts::default();
        options.tree_builder.scripting_enabled = scripts;
        parse_document(Self::default(), options).one(page)
    }

    pub(super) fn document(&self) -> &Handle {
        &self.tree.document
    }

    /// Returns the form that was open at a control's place, whatever its `form` attribute.
    pub(super) fn owner(&self, control: &Handle) -> Option<Handle> {
        let owners = self.owners.borrow();
        let owner = owners.iter().find(|(owned, _)| Rc::ptr_eq(owned, control));
        owner.map(|(_, form)| form.clone())
    }
}

/// Returns the name of an HTML element; `None` for text, SVG and MathML.
pub(super) fn html_name(node: &Handle) -> Option<&str> {
    match &node.data {
        NodeData::Element { name, .. } if &*name.ns == HTML => Some(&name.local),
        _ => None,
    }
}

/// Returns the value of an element's attribute.
pub(super) fn value(node: &Handle, wanted: &str) -> Option<String> {
    let NodeData::Element { attrs, .. } = &node.data else { return None };
    let attrs = attrs.borrow();
    let found = attrs.iter().find(|attr| &*attr.name.local == wanted);
    found.map(|attr| attr.value.to_string())
}

/// html5ever's tree sink builds the tree; only the owners of controls are recorded here.
impl TreeSink for Dom {
    type Handle = Handle;
    type Output = Self;
    type ElemName<'a> = ExpandedName<'a>;

    fn associate_with_form(&self, control: &Handle, form: &Handle, _: (&Handle, Option<&Handle>)) {
        self.owners.borrow_mut().push((control.clone(), form.clone()));
    }

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        self.tree.get_document()
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        self.tree.elem_name(target)
    }

    fn create_element(&self, name: QualName, attrs: Vec<Attribute>, flags: ElementFlags) -> Handle {
        self.tree.create_element(name, attrs, flags)
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        self.tree.create_comment(text)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> Handle {
        self.tree.create_pi(target, data)
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.tree.append(parent, child);
    }

    fn append_based_on_parent_node(
        &self,
        element: &Handle,
        previous: &Handle,
        child: NodeOrText<Handle>,
    ) {
        self.tree.append_based_on_parent_node(element, previous, child);
    }

    fn append_doctype_to_document(&self, name: StrTendril, public: StrTendril, system: StrTendril) {
        self.tree.append_doctype_to_document(name, public, system);
    }

    fn get_template_contents(&self, target: &Handle) -> Handle {
        self.tree.get_template_contents(target)
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        self.tree.same_node(x, y)
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.tree.set_quirks_mode(mode);
    }

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        self.tree.append_before_sibling(sibling, child);
    }

    fn add_attrs_if_missing(&self, target: &Handle, attrs: Vec<Attribute>) {
        self.tree.add_attrs_if_missing(target, attrs);
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.tree.remove_from_parent(target);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        self.tree.reparent_children(node, new_parent);
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &Handle) -> bool {
        self.tree.is_mathml_annotation_xml_integration_point(handle)
    }
}
