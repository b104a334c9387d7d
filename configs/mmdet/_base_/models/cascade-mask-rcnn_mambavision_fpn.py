"""mmdet's Cascade Mask R-CNN on a MambaVision backbone, its heads as ConvNeXt's and Swin's.

Four convolutions and a linear layer each, SyncBN, GIoU. Leaves set arch and neck.in_channels;
windows and weights as in mask-rcnn_mambavision_fpn.py.
"""

_base_ = "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmquad.MambaVision",
        window=(112, 56),
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
    ),
    roi_head=dict(
        bbox_head=[
            {
                **head,
                "type": "ConvFCBBoxHead",
                "num_shared_convs": 4,
                "num_shared_fcs": 1,
                "conv_out_channels": 256,
                "reg_class_agnostic": False,
                "reg_decoded_bbox": True,
                "norm_cfg": dict(type="SyncBN", requires_grad=True),
                "loss_bbox": dict(type="GIoULoss", loss_weight=10.0),
            }
            for head in _base_.model.roi_head.bbox_head
        ]
    ),
)
